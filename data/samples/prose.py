"""Articles about the world: clean text as a crawl, or a trusted collection, would hold it."""

from __future__ import annotations

import random
from dataclasses import dataclass

from data.samples.phrasing import Language, answer, ask, spoken
from data.samples.world import RELATIONS, TOWNS, Fact, facts


@dataclass(frozen=True)
class Article:
    """A title and paragraphs of whole sentences."""

    lang: str
    title: str
    paragraphs: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n".join(self.paragraphs)


class Writer:
    """Writes articles in one language; all choices come from `rng`, statements of a fact take turns."""

    def __init__(self, language: Language, rng: random.Random) -> None:
        self.language = language
        self.rng = rng
        self.facts = {(fact.relation, fact.index): fact for fact in facts(language.lang)}
        self._turn = {fact.id: rng.randrange(97) for fact in self.facts.values()}
        self._fillers: list[str] = []
        self._more = 1 if language.lang == "zh" else 0  # Chinese sentences are short: a page takes more of them

    def tell(self, fact: Fact) -> str:
        """State `fact` in the next of its phrasings; every second time in the canonical answer's words or near them."""
        told = self.language.relations[fact.relation].told
        turn = self._turn[fact.id]
        self._turn[fact.id] += 1
        return spoken(told[turn % len(told)], self.rng, s=fact.subject, v=fact.value)

    def filler(self) -> str:
        """A sentence that states nothing; no template comes again before all have been used."""
        if not self._fillers:
            self._fillers = list(self.language.fillers)
            self.rng.shuffle(self._fillers)
        return spoken(self._fillers.pop(), self.rng)

    def _paragraphs(self, sentences: list[str], length: int) -> tuple[str, ...]:
        return tuple(
            self.language.joint.join(sentences[start : start + length]) for start in range(0, len(sentences), length)
        )

    def _mixed(self, told: list[Fact], fillers: int) -> list[str]:
        """The facts in order, with fillers in between."""
        sentences = [self.tell(fact) for fact in told]
        for _ in range(fillers):
            sentences.insert(self.rng.randrange(1, len(sentences) + 1), self.filler())
        return sentences

    def town(self, index: int) -> Article:
        """One town: most of its facts, and where its river begins."""
        name = TOWNS[index][0 if self.language.lang == "en" else 1]
        relations = [relation for relation, (subjects, _) in RELATIONS.items() if subjects is TOWNS]
        self.rng.shuffle(relations)
        told = [self.facts[relation, index] for relation in relations[: self.rng.randint(5, 7) - self._more]]
        told.append(self.facts["source", index])
        sentences = [spoken(self.rng.choice(self.language.openings), self.rng, s=name)]
        sentences += self._mixed(told, self.rng.randint(3, 4) + self._more)
        return Article(
            self.language.lang, self.rng.choice(self.language.titles).format(s=name), self._paragraphs(sentences, 5)
        )

    def theme(self, relation: str) -> Article:
        """One relation over all its subjects."""
        indices = self.rng.sample(range(8), 8)
        sentences = [self.filler(), *self._mixed([self.facts[relation, i] for i in indices], self.rng.randint(3, 4) + self._more)]
        return Article(self.language.lang, self.rng.choice(self.language.themes[relation]), self._paragraphs(sentences, 4))

    def journey(self) -> Article:
        """Three facts of each of three towns."""
        sentences: list[str] = []
        for index in self.rng.sample(range(8), 3):
            relations = self.rng.sample(list(RELATIONS), 3)
            name = TOWNS[index][0 if self.language.lang == "en" else 1]
            sentences.append(spoken(self.rng.choice(self.language.openings), self.rng, s=name))
            sentences += self._mixed([self.facts[relation, index] for relation in relations], 1 + self._more)
        return Article(self.language.lang, self.rng.choice(self.language.journeys), self._paragraphs(sentences, 5))

    def asked(self, told: list[Fact], title: str) -> Article:
        """Questions and answers about `told`, a few pairs a paragraph; fillers go before and after."""
        lines = []
        for fact in told:
            question = ask(self.rng.choice(self.language.relations[fact.relation].asked), fact)
            reply = answer(self.language, fact) if self.rng.random() < 0.7 else self.tell(fact)
            lines.append(self.language.joint.join([question, reply]))
        body = self._paragraphs(lines, 2 + self._more)
        first = self.language.joint.join(self.filler() for _ in range(2 + self._more))
        return Article(self.language.lang, title, (first, *body, self.language.joint.join([self.filler(), self.filler()])))

    def town_asked(self, index: int) -> Article:
        """What guests ask about one town."""
        told = [fact for (_, i), fact in self.facts.items() if i == index]
        return self.asked(self.rng.sample(told, 6), self.language.asked_titles[0].format(s=TOWNS[index][0 if self.language.lang == "en" else 1]))

    def valley_asked(self) -> Article:
        """What guests ask about the whole valley."""
        return self.asked(self.rng.sample(list(self.facts.values()), 10), self.language.asked_titles[1])

    def articles(self, count: int) -> list[Article]:
        """`count` articles: of ten, three about a town, two about a relation, two journeys, three with guests' questions."""
        relations = list(RELATIONS)
        result = []
        for number in range(count):
            turn, kind = divmod(number, 10)
            if kind < 3:
                result.append(self.town((turn * 3 + kind) % 8))
            elif kind < 5:
                result.append(self.theme(relations[(turn * 2 + kind) % 8]))
            elif kind < 7:
                result.append(self.journey())
            else:
                result.append(self.town_asked((turn + 3) % 8) if kind == 7 else self.valley_asked())
        return result
