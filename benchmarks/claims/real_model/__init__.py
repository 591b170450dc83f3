"""Control of a real model, SmolLM2-135M-Instruct."""
