"""Make a small Qwen2 with random weights, a tokenizer and a chat template: no download, the same bytes for a seed.

The model serves to prove the way from weights on a disk to tokens on the wire; what it says means nothing.
It comes in several shards, as large models do. The directory appears whole or not at all. A model that is there stays; what a copy left
that did not end is replaced, as long as nothing of anybody else lies beside it.
"""

import argparse
import fcntl
import json
import os
import random
import shutil
import sys
import tempfile

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make_tokenizer(vocab, max_length):
    """Return a byte-level BPE tokenizer trained on made-up words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    syllables = [consonant + vowel for consonant in "bcdfghjklmnprstvwz" for vowel in "aeiou"]
    words = ["".join(random.choice(syllables) for _ in range(random.randint(1, 4))) for _ in range(3000)]
    text = (" ".join(random.choice(words) for _ in range(20)) for _ in range(2000))
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=SPECIAL,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    core.train_from_iterator(text, trainer)
    if core.get_vocab_size() != vocab:
        raise SystemExit(f"the tokenizer has {core.get_vocab_size()} entries, expected {vocab}: choose a smaller --vocab")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_model(args, tokenizer):
    """Return the model, in bfloat16."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(args.seed)
    end_of_text = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    config = Qwen2Config(
        vocab_size=args.vocab,
        hidden_size=args.hidden,
        intermediate_size=args.hidden * 2,
        num_hidden_layers=args.layers,
        num_attention_heads=args.heads,
        num_key_value_heads=args.kv_heads,
        max_position_embeddings=args.max_length,
        tie_word_embeddings=False,
        use_sliding_window=False,
        bos_token_id=end_of_text,
        eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
        pad_token_id=end_of_text,
    )
    return Qwen2ForCausalLM(config).to(torch.bfloat16)


def unfinished(out):
    """Return the names of the files of a copy to ``out`` that did not end, as its mark has them; None where there was none."""
    mark, work = os.path.join(out, ".plumbline-unfinished"), os.path.join(out, ".plumbline-sync")
    if not os.path.exists(mark) and not (os.path.isdir(work) and os.listdir(work)):
        return None
    try:
        with open(mark, encoding="utf-8") as text:
            return set(json.load(text)["files"])
    except (OSError, ValueError, LookupError, TypeError):
        return set()


def others(out, ours):
    """Return the names of what lies in ``out`` and is neither of ``ours`` nor hidden state of Plumbline's."""
    found = []
    for base, folders, names in os.walk(out):
        folders[:] = [name for name in folders if not (base == out and name.startswith(".plumbline-"))]
        links = [name for name in folders if os.path.islink(os.path.join(base, name))]
        for name in names + links:
            relative = os.path.relpath(os.path.join(base, name), out)
            if relative not in ours and not relative.startswith(".plumbline-"):
                found.append(relative)
    return sorted(found)


def is_to_be_made(out):
    """Tell whether there is no model in ``out`` yet; exit where what lies there is none and may not be replaced."""
    if not os.path.isdir(out) or not os.listdir(out):
        return True
    if os.path.exists(os.path.join(out, "manifest.json")):
        return False
    ours = unfinished(out)
    if ours is None:
        if os.path.exists(os.path.join(out, "config.json")):
            return False
        sys.exit(f"{out} is not empty and has no config.json: not a model of ours; move it away or set model_sync_path")
    left = others(out, ours)
    if left:
        sys.exit(
            f"{out} was left half-copied, and {len(left)} files there are not the copy's: {', '.join(left[:5])}; "
            "move them away, or remove the folder, and run again"
        )
    return True


def put(half, out):
    """Give a model that is whole its name; nobody copies to ``out`` meanwhile."""
    if os.path.isdir(out):
        handle = os.open(out, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(out)
        except BlockingIOError:
            sys.exit(f"another run copies to {out} now; let it end, then run again")
        finally:
            os.close(handle)
    os.rename(half, out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--kv-heads", type=int, default=2)
    parser.add_argument("--vocab", type=int, default=1024)
    parser.add_argument("--max-length", type=int, default=4096)
    parser.add_argument("--shard", default="500KB", help="largest shard")
    args = parser.parse_args()

    out = os.path.abspath(args.out)
    if not is_to_be_made(out):
        print(json.dumps({"path": out, "parameters": None, "files": sorted(os.listdir(out))}))
        return
    random.seed(args.seed)
    os.umask(0o022)  # the user whom the other nodes log in as passes through the folders above
    os.makedirs(os.path.dirname(out), exist_ok=True)
    half = tempfile.mkdtemp(prefix=".making-", dir=os.path.dirname(out))
    try:
        tokenizer = make_tokenizer(args.vocab, args.max_length)
        model = make_model(args, tokenizer)
        model.save_pretrained(half, max_shard_size=args.shard)
        tokenizer.save_pretrained(half)
        os.chmod(half, 0o755)
        for name in os.listdir(half):
            os.chmod(os.path.join(half, name), 0o644)
        put(half, out)
    finally:
        shutil.rmtree(half, ignore_errors=True)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(json.dumps({"path": out, "parameters": parameters, "files": sorted(os.listdir(out))}))


if __name__ == "__main__":
    main()
