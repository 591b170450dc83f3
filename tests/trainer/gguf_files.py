"""A small GGUF file, written by llama.cpp's own package: the shipped expressions policy, as Qwen2."""

from pathlib import Path

import gguf

from entrostat.trainer.policy.models import load_model


def write_gguf(path: Path, name: str = "expressions") -> None:
    """Weights in float32, so that nothing is lost, and a byte-level tokenizer with the same ids for the same text."""
    model, tokenizer = load_model(name)
    config, writer = model.config, gguf.GGUFWriter(path, "qwen2")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_tokenizer_model("gpt2")
    tokens = tokenizer.convert_ids_to_tokens(range(config.vocab_size))
    tokens[tokenizer.eos_token_id] = "<|endoftext|>"  # which transformers would add to Qwen2's if it were not there
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL] * 2 + [gguf.TokenType.NORMAL] * (len(tokens) - 2))
    writer.add_token_scores([0.0] * len(tokens))  # in place of merges: one character, one token
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, config.num_hidden_layers)
    for key, weight in model.state_dict().items():
        if key != "lm_head.weight":  # tied
            writer.add_tensor(names.get_name(key, try_suffixes=(".weight", ".bias")), weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
