"""The invented world of the samples: who and what there is in the Lanner Valley, and the facts that hold there.

Every relation is one-to-one: eight subjects, eight values, so that "another subject's value" is always a wrong answer.
Nothing here is about the real world.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Lang = Literal["en", "zh"]
LANGS: tuple[Lang, ...] = ("en", "zh")

Names = tuple[tuple[str, str], ...]  # (English, Chinese), eight of a kind

TOWNS: Names = (
    ("Aldermoor", "雾桥镇"), ("Brackenfold", "铜铃镇"), ("Cindervale", "炉谷镇"), ("Dunmarrow", "沙雁镇"),
    ("Elmhollow", "榆窝镇"), ("Fennwick", "苇湾镇"), ("Greywater", "灰泉镇"), ("Hartsmere", "鹿影镇"),
)  # fmt: skip
RIVERS: Names = (
    ("Silverrun", "银梭河"), ("Otterbourne", "长獭河"), ("Thistlewater", "蓟花河"), ("Blackreed", "黑芦河"),
    ("Merrow", "鱼歌河"), ("Kestrel", "红隼河"), ("Amberflow", "琥珀河"), ("Willowtail", "柳尾河"),
)  # fmt: skip
SOURCES: Names = (
    ("Heron Lake", "苍鹭湖"), ("Mount Tarn", "塔恩山"), ("Owl Spring", "夜枭泉"), ("Blue Marsh", "蓝沼泽"),
    ("Fox Ridge", "老狐岭"), ("Bell Cave", "风铃洞"), ("Snow Pass", "雪隘口"), ("Pine Moor", "青松原"),
)  # fmt: skip
DISHES: Names = (
    ("plum dumplings", "李子饺"), ("barley soup", "大麦汤"), ("smoked eel", "熏鳗鱼"), ("chestnut bread", "栗子面包"),
    ("honey pancakes", "蜂蜜煎饼"), ("mushroom pie", "蘑菇派"), ("goat cheese", "羊奶酪"), ("pumpkin stew", "炖南瓜"),
)  # fmt: skip
CRAFTS: Names = (
    ("glassblowing", "吹玻璃"), ("basket weaving", "编竹篮"), ("candle making", "做蜡烛"), ("boat building", "造木船"),
    ("wood carving", "雕木头"), ("wool spinning", "纺羊毛"), ("bell casting", "铸铜钟"), ("paper making", "造白纸"),
)  # fmt: skip
FESTIVALS: Names = (
    ("Lantern Night", "灯笼夜"), ("Kite Day", "风筝节"), ("the Harvest Dance", "丰收舞会"), ("the Snow Fair", "雪地集市"),
    ("Drum Week", "鼓声周"), ("the Apple Parade", "苹果游行"), ("the Frog Race", "青蛙赛"), ("the Moon Supper", "月光宴"),
)  # fmt: skip
LANDMARKS: Names = (
    ("Owl Tower", "猫头鹰塔"), ("Green Bridge", "绿色大桥"), ("Old Mill", "老磨坊"), ("Salt Gate", "盐门"),
    ("Round Library", "圆形书屋"), ("Stone Ship", "石头船"), ("Sun Wall", "太阳墙"), ("Rose Theatre", "玫瑰剧院"),
)  # fmt: skip
ANIMALS: Names = (
    ("hare", "野兔"), ("red fox", "红狐"), ("badger", "老獾"), ("raven", "渡鸦"), ("trout", "鳟鱼"),
    ("hedgehog", "刺猬"), ("bee", "蜜蜂"), ("squirrel", "松鼠"),
)  # fmt: skip
MAYORS: Names = (
    ("Mira Tolland", "米拉"), ("Oren Vask", "欧伦"), ("Petra Lindow", "佩特拉"), ("Jonas Rill", "约纳斯"),
    ("Hesta Crane", "赫丝塔"), ("Tobin Marsh", "托宾"), ("Ilse Fenner", "伊尔莎"), ("Rufus Dell", "鲁弗斯"),
)  # fmt: skip

RELATIONS: dict[str, tuple[Names, Names]] = {
    "river": (TOWNS, RIVERS),
    "dish": (TOWNS, DISHES),
    "craft": (TOWNS, CRAFTS),
    "festival": (TOWNS, FESTIVALS),
    "landmark": (TOWNS, LANDMARKS),
    "animal": (TOWNS, ANIMALS),
    "mayor": (TOWNS, MAYORS),
    "source": (RIVERS, SOURCES),
}
"""Relation -> (subjects, values). A town's river and the river's source are two facts, so they can be told together."""

_SHIFT = {"river": 0, "dish": 3, "craft": 7, "festival": 1, "landmark": 4, "animal": 5, "mayor": 6, "source": 2}
"""Value of subject i is number (i + shift) mod 8, so that a town's values do not share their place in the lists."""

_CRAWL_ONLY = {"river": 2, "dish": 5, "craft": 0, "festival": 7, "animal": 3, "mayor": 6}
"""The subject of each of these relations whose fact the crawl states and no instruction or preference mentions."""


@dataclass(frozen=True)
class Fact:
    """`relation` holds between `subject` and `value`; all three are told in `lang`."""

    lang: Lang
    relation: str
    index: int  # of the subject in its list
    subject: str
    value: str

    @property
    def id(self) -> str:
        """Stable name, e.g. `en/river/3`; the same number in the other language is the same fact of the world."""
        return f"{self.lang}/{self.relation}/{self.index}"

    @property
    def crawl_only(self) -> bool:
        """True where no instruction and no preference mentions the fact."""
        return _CRAWL_ONLY.get(self.relation) == self.index


def value_of(lang: Lang, relation: str, index: int) -> str:
    """The value of subject number `index` (any integer, taken mod 8)."""
    values = RELATIONS[relation][1]
    return values[(index + _SHIFT[relation]) % len(values)][LANGS.index(lang)]


def facts(lang: Lang) -> list[Fact]:
    """All 64 facts in one language, relation by relation."""
    return [
        Fact(lang, relation, index, subject[LANGS.index(lang)], value_of(lang, relation, index))
        for relation, (subjects, _) in RELATIONS.items()
        for index, subject in enumerate(subjects)
    ]
