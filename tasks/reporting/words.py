"""What the report's figures and stages mean, for a reader who has not trained a model."""

from __future__ import annotations

# What a stage's model is, by the stage's kind.
KINDS = {
    "pretrain": "base: goes on with a text",
    "sft": "taught by example answers",
    "reward": "scores answers",
    "ppo": "aligned by rewards",
    "rloo": "aligned by rewards",
    "grpo": "aligned by rewards",
    "raft": "aligned by its best answers",
    "best_of_n": "aligned by its best answers",
    "dpo": "aligned by preferences",
    "other": "beside the recipe",
}

# The list at the end of the report.
WORDS = {
    "95% interval": "Where the figure would lie in 95 of 100 repetitions with other questions. Two figures whose intervals overlap may be equal.",
    "right answers": "Share of held-out questions whose answer begins with the known right one.",
    "greedy, drawn": "A greedy answer takes the most probable token each time; drawn answers follow the model's own probabilities, so they differ.",
    "knowledge": "Multiple choice: the letter that the model finds most probable. Guessing gets 25%.",
    "perplexity": "Among how many tokens the model hesitates at each step of a text it has never seen; less is better. Comparable only between models with the same tokenizer.",
    "bits per byte": "What the same text would take if the model compressed it; less is better, and comparable between any two models.",
    "reward": "What the reward model gives an answer: only differences mean something, more is meant to be better.",
    "KL": "How far the answers have moved from those of the model that training began with, in nats an answer: 0 is nowhere. Beyond about 10 rewards stop meaning much.",
    "win rate": "Share of prompts on which a judge prefers the answer to that of the model compared with; ties count half, so 50% is no difference.",
    "finished, repeating": "Answers that came to their own end, and answers that say the same three tokens three times in a row.",
    "distinct-1, distinct-2": "Different tokens, or pairs of neighbouring tokens, as a share of all in the answers: low where they are alike.",
    "self-BLEU": "How alike the drawn answers to one prompt are: 1 where all say the same.",
    "loss, eval_loss": "What training lowers, on what it reads and on what is held out. Where the second rises while the first falls, the model learns by heart.",
    "alignment tax": "What a model loses elsewhere by being aligned: held-out text it predicts worse, questions it no longer answers.",
    "reward hacking": "Answers that please the reward model and nobody else: the reward rises while variety or right answers fall.",
}
