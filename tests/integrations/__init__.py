"""Tests of the controller in other people's trainers."""
