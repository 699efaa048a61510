"""Talk to a model in the terminal: `python -m rlhf_core.chat MODEL`.

MODEL is a model folder, a training stage's artifact, or a hub name. A line is a question; /help names the commands. Ctrl-C
breaks an answer off, at the prompt it ends the program, as the end of the input does. Without a terminal, questions come
from standard input, one a line.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from rlhf_core.chat.columns import shown, side_by_side
from rlhf_core.job.errors import BadInput

if TYPE_CHECKING:
    from rlhf_core.chat.speaker import Speaker
    from rlhf_core.rewards.sources import Scorer

HELP = """/new           forget the conversation
/undo          take the last question and its answer back
/system TEXT   set the system prompt, which begins a new conversation; without TEXT there is none
/help          this list
/quit          leave (as Ctrl-C or Ctrl-D here; Ctrl-C breaks an answer off)"""


def main(arguments: list[str] | None = None) -> int:
    options = _options().parse_args(arguments)
    try:
        session = open_session(options)
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return session.run(_questions())


class Session:
    """One conversation with one model, or the same with two. `show` prints text as it comes."""

    def __init__(self, speakers: list[Speaker], reward_model: Scorer | None, show: Callable[[str], None]) -> None:
        self.speakers, self.reward_model, self.show = speakers, reward_model, show

    def run(self, questions: Iterable[str]) -> int:
        for question in questions:
            if question.startswith("/"):
                if not self.command(question):
                    break
            elif question:
                self.ask(question)
        return 0

    def command(self, text: str) -> bool:
        """Do what a command says; False ends the session."""
        name, _, rest = text.partition(" ")
        if name == "/quit":
            return False
        if name in ("/new", "/system"):
            for speaker in self.speakers:
                speaker.forget()
                if name == "/system":
                    speaker.system = rest.strip() or None
            self.show("new conversation\n")
        elif name == "/undo":
            undone = [question for speaker in self.speakers if (question := speaker.undo())]
            self.show(f"taken back: {undone[0]}\n" if undone else "there is nothing to take back\n")
        elif name == "/help":
            self.show(HELP + "\n")
        else:
            self.show(f"there is no command {name}; /help names them\n")
        return True

    def ask(self, question: str) -> None:
        """Show every speaker's answer as it comes; a question that one of them refuses is asked of none."""
        try:
            for speaker in self.speakers:
                speaker.check(question)
        except ValueError as error:
            self.show(f"error: {error}\n")
            return
        answers = [speaker.answer(question) for speaker in self.speakers]
        try:
            for text in self._lines(answers) if len(answers) > 1 else map(shown, answers[0]):
                self.show(text)
        except KeyboardInterrupt:
            self.show(" (broken off)")
        self.show("\n" + self.remarks())

    def _lines(self, answers: Sequence[Iterator[str]]) -> Iterator[str]:
        """Two answers in columns below their models' names."""
        left, right = (chain([f"[{speaker.model.name}]\n"], map(shown, own)) for speaker, own in zip(self.speakers, answers, strict=True))
        for line in side_by_side(left, right, shutil.get_terminal_size().columns):
            yield line + "\n"

    def remarks(self) -> str:
        """What there is to say about the last answers: rewards, forgotten turns, answers that did not end."""
        lines = []
        for speaker in self.speakers:
            notes = [*self._reward(speaker)]
            if speaker.forgotten:
                notes.append(f"the first {speaker.forgotten} turns no longer fit and were forgotten")
            if not speaker.finished:
                notes.append("not finished")
            if notes:
                name = f"{speaker.model.name}: " if len(self.speakers) > 1 else ""
                lines.append(f"({name}{'; '.join(notes)})\n")
        return "".join(lines)

    def _reward(self, speaker: Speaker) -> Iterator[str]:
        if self.reward_model is None or not speaker.turns:
            return
        prompt, text = speaker.prompt, speaker.turns[-1].text
        if self.reward_model.fits([prompt], [text]) == [True]:
            yield f"reward {float(self.reward_model.score_texts([prompt], [text], [speaker.finished])):.2f}"
        else:
            yield "too long for the reward model"


def open_session(options: argparse.Namespace, show: Callable[[str], None] | None = None) -> Session:
    """Load what the options name; BadInput where it is not there."""
    from rlhf_core.chat.speaker import Speaker
    from rlhf_core.evaluation.candidate import load_candidate
    from rlhf_core.job.inputs import Inputs
    from rlhf_core.models.networks import quiet_libraries, take_device
    from rlhf_core.rewards.sources import load_scorer
    from rlhf_core.settings.alignment import RewardSource

    quiet_libraries()
    device = take_device(options.threads)
    speakers = []
    for source in [options.model, *([options.second] if options.second else [])]:
        role = _role(source)
        model = load_candidate(Inputs({role: source}), role, device, options.precision)
        if model.plain:
            print(f"{model.name} has not learned to chat: it goes on from each question as from any text, and remembers nothing", file=sys.stderr)
        speakers.append(Speaker(model, options.system, options.max_new_tokens, options.temperature, options.seed))
    reward_model = None
    if options.reward_model:
        source = Inputs({"reward": options.reward_model}).model("reward")
        reward_model = load_scorer(RewardSource(model=source), source, speakers[0].model.chat, device, "fp32")
    return Session(speakers, reward_model, show or _print)


def _role(source: str) -> str:
    """KIND:NAME of a model: of a training stage's artifact what its manifest says, of any other folder or hub name `other` and the last
    part of it that says something."""
    path = Path(source).resolve() if Path(source).exists() else Path(source)
    home = path.parent if path.name == "model" else path
    manifest = home / "manifest.json"
    if not manifest.is_file():
        return f"other:{home.name}"
    said = json.loads(manifest.read_text(encoding="utf-8"))
    return f"{said['settings'].get('kind', 'other')}:{said['stage']}"


def _print(text: str) -> None:
    print(text, end="", flush=True)


def _questions() -> Iterator[str]:
    """Lines that a person types, or that stand on standard input."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # a pasted byte that is no UTF-8 ends no conversation
    if not sys.stdin.isatty():
        yield from (line.strip() for line in sys.stdin)
        return
    import readline  # noqa: F401 - arrow keys and history at the prompt

    while True:
        try:
            yield input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rlhf_core.chat", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a model folder, a training stage's artifact, or a hub name")
    parser.add_argument("--second", metavar="MODEL", help="a second model, which answers the same questions beside the first")
    parser.add_argument("--reward-model", metavar="MODEL", help="show what it gives each answer")
    parser.add_argument("--system", metavar="TEXT", help="system prompt")
    parser.add_argument("--max-new-tokens", type=_positive, default=256, help="tokens of an answer at most, fewer where the context ends (default: %(default)s)")
    parser.add_argument("--temperature", type=_temperature, default=0.0, help="0 = always the most probable token (default: %(default)g)")
    parser.add_argument("--seed", type=int, default=1, help="of the drawn answers (default: %(default)s)")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of the models' weights (default: %(default)s)")
    parser.add_argument("--threads", type=_positive, help="of the CPU (default: all cores)")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {value}")
    return value


def _temperature(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 10:
        raise argparse.ArgumentTypeError(f"must be from 0 to 10, not {value}")
    return value


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:  # the reader of our output is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
