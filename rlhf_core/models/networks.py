"""The networks: a causal language model as a policy, and the same backbone with a scalar head as a critic.

Both read right-padded sequences without an attention mask (see TokenBatch). Dropout is off in every stage: PPO
compares log-probabilities of two passes, and small models on small data are regularised by their data order.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from rlhf_core.dataset.chat_template import Chat
from rlhf_core.engine import whole
from rlhf_core.generation import small
from rlhf_core.job.errors import BadInput
from rlhf_core.losses import logprobs_and_entropy
from rlhf_core.models import head
from rlhf_core.settings import FreshModel

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class PolicyModel(nn.Module):
    """A Hugging Face causal language model that computes logits where they are asked for, and nowhere else."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        # Models that bend their logits after the head must do it themselves, and so must those whose head is inside another (BERT).
        config, head_itself = model.config, model.get_output_embeddings()
        self._split = any(child is head_itself for child in model.children()) and not any(
            getattr(config, key, None) for key in ("final_logit_softcapping", "logit_scale", "logits_scaling")
        )

    def forward(
        self, input_ids: Tensor, select: Tensor, labels: Tensor | None = None, temperature: float = 1.0, past: Any = None
    ) -> Any:
        """input_ids (B, L) right-padded, select (B, L) bool -> logits (N, V) at the selected positions, row by row; or, where
        `labels` (N,) are given, (their log-probabilities (N,), entropies (N,)) in nats at the temperature, float32.

        The logits at position t are those of token t+1. `past`: keys and values of what stands before (a cache of B rows).
        """
        if not self._split:
            read = {"input_ids": input_ids, "use_cache": past is not None, "past_key_values": past}
            logits = self.model(**read).logits[select]
            return logits if labels is None else logprobs_and_entropy(logits, labels, temperature)
        return self.said(hidden_at(self.model, input_ids, select, past), labels, temperature)

    def said(self, hidden: Tensor, labels: Tensor | None, temperature: float) -> Any:
        """What the head makes of hidden states (N, H): as `forward` returns it."""
        output: Any = self.model.get_output_embeddings()
        if labels is not None and head.serves(output):
            return head.token_likelihood(hidden, output.weight, labels, temperature)
        logits = head.project(output, hidden)
        return logits if labels is None else logprobs_and_entropy(logits, labels, temperature)

    def save(self, folder: Path, chat: Chat, state: dict[str, Tensor] | None = None) -> None:
        _save(self.model, folder, chat, state)


class ScalarModel(nn.Module):
    """A Hugging Face sequence classifier with one label, read where it is asked: reward model and value model."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, select: Tensor) -> Tensor:
        """input_ids (B, L) right-padded, select (B, L) bool -> scores (N,) float32 at the selected positions, row by row.

        A sequence's score is the one at its last token.
        """
        scores: Tensor = head.project(self.model.score, hidden_at(self.model, input_ids, select)).squeeze(-1).float()
        return scores

    def save(self, folder: Path, chat: Chat, state: dict[str, Tensor] | None = None) -> None:
        _save(self.model, folder, chat, state)


def hidden_at(model: Any, input_ids: Tensor, select: Tensor, past: Any = None) -> Tensor:
    """The last hidden states of a Hugging Face model: (B, L) right-padded, select (B, L) bool -> (N, hidden). `past`:
    keys and values of what stands before."""
    if past is None:
        asked = torch.nonzero(select.any(0))
        width = int(asked[-1]) + 1 if len(asked) else 1
        input_ids, select = input_ids[:, :width], select[:, :width]  # nothing looks at what stands behind
        own = small.hidden_states(model, input_ids, select)
        if own is not None:
            return own
    read = {"input_ids": input_ids, "use_cache": past is not None, "past_key_values": past}
    hidden: Tensor = model.base_model(**read)[0]
    return hidden[select]


def selected_labels(input_ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(select, labels): positions whose next token counts, (B, L) bool, and those tokens, (N,)."""
    select = torch.zeros_like(mask)
    select[:, :-1] = mask[:, 1:]
    return select, input_ids[:, 1:][mask[:, 1:]]


def last_tokens(lengths: Tensor, width: int) -> Tensor:
    """Each row's last real token, (B, width) bool; of a row without any, its first place."""
    places = torch.arange(width, device=lengths.device)
    return places == (lengths - 1).clamp(min=0).unsqueeze(1)


# Making and loading


def fresh_policy(settings: FreshModel, chat: Chat, seed: int, attention: str = "sdpa") -> PolicyModel:
    """A model from nothing, float32, the same weights for the same seed."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    factory: Any = AutoModelForCausalLM
    model = factory.from_config(fresh_config(settings, chat), attn_implementation=attention)
    return PolicyModel(_ready(model, chat))


def fresh_config(settings: FreshModel, chat: Chat) -> Any:
    """Llama with rotary positions; Falcon's second architecture with ALiBi, which Llama does not have."""
    common: dict[str, Any] = {
        "vocab_size": chat.vocab_size,
        "hidden_size": settings.hidden_size,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.heads,
        "max_position_embeddings": settings.context_length,
        "tie_word_embeddings": settings.tie_embeddings,
        "initializer_range": settings.init_std or (2 / (5 * settings.hidden_size)) ** 0.5,
        "bos_token_id": None,
        "eos_token_id": chat.end_id,
        "pad_token_id": chat.pad_id,
        "dtype": "float32",
    }
    kv_heads = settings.kv_heads or settings.heads
    if settings.positions == "alibi":
        from transformers import FalconConfig

        width = settings.intermediate_size or 4 * settings.hidden_size
        return FalconConfig(
            alibi=True, new_decoder_architecture=True, num_kv_heads=kv_heads, ffn_hidden_size=width, hidden_dropout=0.0,
            attention_dropout=0.0, **common,
        )  # fmt: skip
    from transformers.models.llama.configuration_llama import LlamaConfig

    width = settings.intermediate_size or -(-settings.hidden_size * 8 // 3 // 32) * 32
    rope: Any = {"rope_type": "default", "rope_theta": settings.rope_theta}
    return LlamaConfig(num_key_value_heads=kv_heads, intermediate_size=width, rope_parameters=rope, **common)


def load_policy(source: str, chat: Chat, precision: str, attention: str = "sdpa") -> PolicyModel:
    """The causal language model of a folder or hub name; embeddings grow where the chat has more tokens. BadInput for a
    classifier: transformers would give it an untrained head and go on; and for one whose tokens see what follows them."""
    from transformers import AutoModelForCausalLM

    if is_classifier(source):
        raise BadInput(f"{source} is a classifier: it writes no answers")
    model = _load(AutoModelForCausalLM, source, precision, attention)
    if any(hasattr(module, "is_decoder") and getattr(module, "is_causal", None) is False for module in model.modules()):
        raise BadInput(f"{source}: in {type(model).__name__} a token sees those behind it; it can learn no answers (BERT: is_decoder in config.json)")
    return PolicyModel(_ready(model, chat, source))


def load_plain(source: str, precision: str, attention: str = "sdpa") -> Any:
    """A folder's causal language model as it stands, without what a chat adds."""
    from transformers import AutoModelForCausalLM

    return _load(AutoModelForCausalLM, source, precision, attention)


def load_scalar(source: str, chat: Chat, precision: str, seed: int, attention: str = "sdpa") -> ScalarModel:
    """A classifier with one label, or the backbone of a language model with a new head; BadInput for other classifiers.

    The new head's weights have deviation 1/sqrt(d+1) (Huang et al. 2024, summarize_from_feedback_details).
    """
    from transformers import AutoModelForSequenceClassification

    if is_classifier(source) and (labels := _config(source).num_labels) != 1:
        raise BadInput(f"{source} is a classifier of {labels} labels: no reward or value model can begin with it (a reward may name its `label`)")
    verbosity = _quiet()
    model = _load(AutoModelForSequenceClassification, source, precision, attention, num_labels=1)
    verbosity()
    if not isinstance(getattr(model, "score", None), nn.Linear):
        raise BadInput(f"{type(model).__name__} has no linear `score` head; use a decoder model")
    if not is_classifier(source):
        generator = torch.Generator().manual_seed(seed)
        width = model.score.in_features
        with whole([model.score.weight]):
            model.score.weight.data.copy_(torch.randn(1, width, generator=generator) / (width + 1) ** 0.5)
    return ScalarModel(_ready(model, chat, source))


def is_classifier(source: str) -> bool:
    """Whether a model folder or hub name holds a sequence classifier; BadInput where it holds no model."""
    return any("SequenceClassification" in name for name in _config(source).architectures or [])


def _config(source: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise BadInput(f"no model can be read from {source}: {error}") from error


def _load(factory: Any, source: str, precision: str, attention: str, **options: Any) -> Any:
    try:
        return factory.from_pretrained(
            source,
            dtype=DTYPES[precision],
            # Asked for sdpa by name, transformers refuses architectures that lack it; left the choice, it takes sdpa, or else eager.
            attn_implementation=None if attention == "sdpa" else attention,
            trust_remote_code=False,
            use_safetensors=True,
            **options,
        )
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise BadInput(f"no model can be read from {source}: {error}") from error


def _ready(model: Any, chat: Chat, source: str | None = None) -> Any:
    if source and (chat.added or chat.source != source):
        add_rows(model, chat, source)
    rows = model.get_input_embeddings().num_embeddings
    if rows < chat.vocab_size:
        raise BadInput(f"{source}: the model has embeddings of {rows} tokens, its own tokenizer has {chat.vocab_size}: they do not belong together")
    model.config.pad_token_id = chat.pad_id
    model.config.eos_token_id = chat.end_id
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.pad_token_id = chat.pad_id
        model.generation_config.eos_token_id = chat.end_id
    without_dropout(model)
    return model


def without_dropout(model: Any) -> None:
    """Dropout off, in training mode too, by whatever name: modules, numbers that modules or their configuration hand to
    F.dropout, layers left out by chance; and the noise of routers to experts. The saved configuration says so."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        owners = [module, getattr(module, "config", None)]
        owners += [getattr(owner, "attn_config", None) for owner in owners]
        for owner in owners:
            for name, value in vars(owner).items() if owner is not None else ():
                if ("drop" in name or "jitter" in name) and isinstance(value, float):
                    setattr(owner, name, 0.0)


def add_rows(model: Any, chat: Chat, source: str) -> None:
    """Embeddings for tokens that the model's own tokenizer lacks: each the mean of the pieces in which that one writes
    it. `model.first_new_row` says where they begin. BadInput where a number is one token here and another there."""
    from transformers import AutoTokenizer

    old = AutoTokenizer.from_pretrained(source)
    known = {number: token for token, number in old.get_vocab().items()}
    if any(known.get(number, token) != token for token, number in chat.tokenizer.get_vocab().items()):
        raise BadInput(f"{source}: its tokenizer numbers tokens otherwise than that of {chat.source}: they do not belong together")
    first, rows = len(old), model.get_input_embeddings().num_embeddings
    if chat.vocab_size <= first:
        return
    if chat.vocab_size > rows:
        model.resize_token_embeddings(chat.vocab_size, mean_resizing=False)
    output = model.get_output_embeddings()
    matrices = {id(m.weight): m.weight for m in (model.get_input_embeddings(), output) if m is not None}
    with torch.no_grad(), whole(list(matrices.values())):
        for token in range(first, chat.vocab_size):
            pieces = old_pieces(old, chat.tokenizer.convert_ids_to_tokens(token))
            for weight in matrices.values():
                weight[token] = weight[pieces].mean(dim=0) if pieces else weight[:first].mean(dim=0)
    model.first_new_row = first


def train_new_rows(model: Any) -> None:
    """Freeze all but the embeddings (input and output) of the tokens that `add_rows` added."""
    first = getattr(model, "first_new_row", None)
    if first is None:
        raise BadInput(
            "trained: new_rows, but the tokenizer has no token that the model lacks; extend it first"
        )
    model.requires_grad_(False)
    output = model.get_output_embeddings()
    for weight in {
        id(m.weight): m.weight for m in (model.get_input_embeddings(), output) if m is not None
    }.values():
        weight.requires_grad_(True)
        weight.decays = False  # a head apart is a matrix like others: its old rows would fade without any gradient
        new = (torch.arange(len(weight)) >= first).unsqueeze(1)
        weight.register_hook(lambda gradient, new=new: gradient * new.to(gradient.device))


def old_pieces(old: Any, token: str) -> list[int]:
    """Ids of the pieces in which an older tokenizer writes a token, given as its vocabulary spells it."""
    backend = old.backend_tokenizer
    inner = backend.model
    pieces = [piece.id for piece in inner.tokenize(token)] if type(inner).__name__ == "BPE" else []
    return pieces or list(backend.encode(token, add_special_tokens=False).ids)


def _quiet() -> Any:
    """Silence transformers' report of the missing head; returns what restores the old verbosity."""
    logger = logging.getLogger("transformers")
    old = logger.level
    logger.setLevel(logging.ERROR)
    return lambda: logger.setLevel(old)


def _save(model: Any, folder: Path, chat: Chat, state: dict[str, Tensor] | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, state_dict=state)
    chat.tokenizer.save_pretrained(folder)


def take_device(threads: int | None) -> torch.device:
    """Where a job of one process computes: the GPU, or `threads` (null = all cores) of the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    return torch.device("cpu")


def quiet_libraries() -> None:
    """Offline where the caller says so, and no progress bars in a job's log."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from transformers.utils import logging as transformers_logging

    bar: Any = transformers_logging.disable_progress_bar
    bar()
