"""Seed tasks, written by hand in the Self-Instruct format. Facts in them agree with world.py."""

from __future__ import annotations

from typing import Any

_EN: tuple[tuple[str, str, str, str, bool], ...] = (
    # name, instruction, input, output, is_classification
    ("greet_guest", "Write one sentence that welcomes a guest to the valley.", "", "Welcome to the Lanner Valley, and please come in.", False),
    ("short_thanks", "Thank the miller for the flour in a friendly way.", "", "Thank you for the good flour, dear miller.", False),
    ("town_or_river", "Decide whether the given name is a town or a river.", "Merrow", "river", True),
    ("mood_of_note", "Is the writer of this note happy or sad?", "It rained all week and my boots are still wet.", "sad", True),
    ("count_words", "Count the words in the given sentence.", "The ferry stops in winter.", "Five.", False),
    ("opposite", "Give the opposite of the word.", "cold", "hot", False),
    ("plural", "Write the plural form.", "goose", "geese", False),
    ("order_days", "Put these days in the right order.", "Wednesday, Monday, Tuesday", "Monday, Tuesday, Wednesday", False),
    ("shorten", "Say the same with fewer words.", "The bakery is a place that is not open on that day.", "The bakery is closed that day.", False),
    ("finish_sentence", "Finish the sentence that the shepherd began.", "When the bell rings at noon,", "When the bell rings at noon, the sheep come home.", False),
    ("pack_bag", "What should I pack for a day of walking in the hills?", "", "Good shoes, bread, water and a warm coat.", False),
    ("advice_rain", "Give a traveller advice for a rainy day.", "", "Stay at the inn, drink tea and dry your socks.", False),
    ("season_of_text", "Which season does the text tell about?", "The apples are red and the leaves fall.", "autumn", True),
    ("colour_in_text", "Which colour is named in the sentence?", "A woman with a green hat showed us the way.", "green", True),
    ("price", "How many coins do two loaves cost at one coin each?", "", "Two coins.", False),
    ("polite", "Make this request polite.", "Give me soup.", "Could I have some soup, please?", False),
    ("first_person", "Rewrite the sentence as if you had done it yourself.", "She walked to the old wall.", "I walked to the old wall.", False),
    ("title", "Find a title for a story about a lost goose.", "", "The Goose That Knew the Way", False),
    ("yes_no_sheep", "Can a sheep read the newspaper? Answer yes or no.", "", "No.", True),
    ("list_animals", "List four animals that live on a farm.", "", "Goats, sheep, geese and a dog.", False),
    ("who_does", "Who carries the letters from door to door?", "", "The postman carries them.", False),
    ("translate_time", "Write the time in words.", "8:00", "eight o'clock", False),
    ("rhyme", "Find a word that rhymes with stone.", "", "bone", False),
    ("describe_inn", "Describe a quiet inn in two short sentences.", "", "A fire burns and the clock is slow. Nobody is in a hurry.", False),
)  # fmt: skip

_ZH: tuple[tuple[str, str, str, str, bool], ...] = (
    ("huanying", "写一句话欢迎来山谷的客人。", "", "欢迎来到蓝隼谷，快请进。", False),
    ("ganxie", "用和气的话感谢磨坊主送来的面粉。", "", "谢谢您这么好的面粉。", False),
    ("fenlei_mingzi", "判断给出的名字属于镇子还是河流。", "微光河", "河流", True),
    ("xinqing", "写这张便条的人高兴还是难过？", "雨下了一个星期，我的鞋子还没干。", "难过", True),
    ("shuzi", "数一数给出的句子有几个字。", "渡船停了", "四个字。", False),
    ("fanyici", "写出这个词的反义词。", "冷", "热", False),
    ("liangci", "给这个名词配上量词。", "鹅", "一只鹅", False),
    ("paixu", "把这几天按先后排好。", "星期三、星期一、星期二", "星期一、星期二、星期三", False),
    ("suoju", "用更少的字说同样的意思。", "面包店在那一天是不开门的。", "面包店那天关门。", False),
    ("xuxie", "把牧羊人没说完的话说完。", "正午钟声一响，", "正午钟声一响，羊就回家了。", False),
    ("xingli", "到山里走一天要带些什么？", "", "好鞋、面包、水和一件厚衣服。", False),
    ("yutian", "给下雨天赶路的人一点建议。", "", "留在客店里喝茶，把袜子烤干。", False),
    ("jijie", "这段文字写的是哪个季节？", "苹果红了，叶子落了。", "秋天", True),
    ("yanse", "句子里提到了哪种颜色？", "戴绿帽子的女人给我们指了路。", "绿色", True),
    ("jiaqian", "面包一个铜钱一个，买两个要多少钱？", "", "两个铜钱。", False),
    ("limao", "把这个要求说得有礼貌。", "给我汤。", "请给我一碗汤，好吗？", False),
    ("rencheng", "把句子改成你自己做的事。", "她走到了旧墙边。", "我走到了旧墙边。", False),
    ("biaoti", "给一个走丢的鹅的故事起个题目。", "", "认得路的鹅", False),
    ("shifou", "羊会不会看报纸？请回答会或者不会。", "", "不会。", True),
    ("dongwu", "写出农场上常见的四种牲口。", "", "山羊、绵羊、鹅和狗。", False),
    ("songxin", "挨家挨户送信的是什么人？", "", "是邮差。", False),
    ("shijian", "用汉字写出时间。", "8:00", "八点", False),
    ("yayun", "找一个和“山”押韵的字。", "", "湾", False),
    ("miaoxie", "用两句短话写一家安静的客店。", "", "炉火烧着，钟走得很慢。谁也不着急。", False),
)  # fmt: skip


def _record(lang: str, number: int, row: tuple[str, str, str, str, bool]) -> dict[str, Any]:
    name, instruction, given, output, is_classification = row
    return {
        "id": f"seed_task_{lang}_{number}",
        "name": name,
        "instruction": instruction,
        "instances": [{"input": given, "output": output}],
        "is_classification": is_classification,
        "lang": lang,
    }


SEED_TASKS: list[dict[str, Any]] = [
    _record(lang, number, row) for lang, rows in (("en", _EN), ("zh", _ZH)) for number, row in enumerate(rows)
]
