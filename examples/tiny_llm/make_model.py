"""Make a language model with random weights: it knows nothing, loads in a second, and answers like any other.

It needs PyTorch and Transformers (``pip install 'dyff-dagster[huggingface]'``) and nothing from the internet.
"""

from __future__ import annotations

import sys
from pathlib import Path

CHARACTERS = ["<s>", "</s>", "<unk>", "\n", *map(chr, range(32, 127))]
CHAT = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def make_model(directory: Path) -> None:
    """Write the model's files, about 110 kB, the same ones each time with the same versions of the libraries."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {character: number for number, character in enumerate(CHARACTERS)}
    characters = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    characters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    characters.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=characters, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )
    tokenizer.chat_template = CHAT
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(directory)
    LlamaForCausalLM(config).save_pretrained(directory)


if __name__ == "__main__":
    make_model(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("model")))
