"""Texts that a cleaner should throw away: other languages, spam, gibberish, and what else a crawl brings in."""

from __future__ import annotations

import random
import string

from data.samples.phrasing import Language, spoken
from data.samples.prose import Article
from data.samples.world import ANIMALS, CRAFTS, DISHES, Lang

FOREIGN: dict[str, tuple[str, ...]] = {
    "de": (
        "Am Morgen liegt Nebel über den Dächern, und die Bäckerin öffnet ihre Tür.",
        "Wir sind drei Stunden zu Fuß gegangen, bis wir die ersten Häuser sahen.",
        "Die Kinder werfen Steine ins Wasser und zählen, wie oft sie springen.",
        "Im Gasthaus gibt es abends eine heiße Suppe und frisches Brot.",
        "Niemand weiß genau, wer die alte Mauer gebaut hat.",
        "Wenn der Schnee kommt, fährt die Fähre nicht mehr über den Fluss.",
        "Der Schäfer kennt jeden Stein und spricht nur wenig.",
        "Auf dem Markt kostet ein Korb Äpfel heute zwei Münzen.",
        "Meine Großmutter hat mir diese Geschichte oft erzählt.",
    ),
    "fr": (
        "Le matin, la brume couvre les toits et la boulangère ouvre sa porte.",
        "Nous avons marché trois heures avant de voir les premières maisons.",
        "Les enfants jettent des cailloux dans l'eau et comptent les ronds.",
        "Le soir, à l'auberge, on sert une soupe chaude avec du pain frais.",
        "Personne ne sait vraiment qui a construit le vieux mur.",
        "Quand la neige arrive, le bac ne traverse plus la rivière.",
        "Le berger connaît chaque pierre et parle très peu.",
        "Au marché, un panier de pommes coûte aujourd'hui deux pièces.",
        "Ma grand-mère m'a souvent raconté cette histoire.",
    ),
    "es": (
        "Por la mañana la niebla cubre los tejados y la panadera abre su puerta.",
        "Caminamos tres horas antes de ver las primeras casas.",
        "Los niños tiran piedras al agua y cuentan los saltos.",
        "Por la noche, en la posada, sirven sopa caliente con pan fresco.",
        "Nadie sabe con certeza quién levantó el viejo muro.",
        "Cuando llega la nieve, la barca ya no cruza el río.",
        "El pastor conoce cada piedra y habla muy poco.",
        "En el mercado una cesta de manzanas cuesta hoy dos monedas.",
        "Mi abuela me contó muchas veces esta historia.",
    ),
    "it": (
        "Al mattino la nebbia copre i tetti e la fornaia apre la porta.",
        "Abbiamo camminato tre ore prima di vedere le prime case.",
        "I bambini gettano sassi nell'acqua e contano i salti.",
        "La sera, alla locanda, servono una zuppa calda con il pane fresco.",
        "Nessuno sa davvero chi abbia costruito il vecchio muro.",
        "Quando arriva la neve, il traghetto non attraversa più il fiume.",
        "Il pastore conosce ogni pietra e parla pochissimo.",
        "Al mercato un cesto di mele costa oggi due monete.",
        "Mia nonna mi ha raccontato spesso questa storia.",
    ),
    "ru": (
        "Утром над крышами стоит туман, и пекарь открывает свою дверь.",
        "Мы шли три часа, прежде чем увидели первые дома.",
        "Дети бросают камни в воду и считают круги.",
        "Вечером на постоялом дворе подают горячий суп и свежий хлеб.",
        "Никто точно не знает, кто построил старую стену.",
        "Когда приходит снег, паром больше не ходит через реку.",
        "Пастух знает каждый камень и говорит очень мало.",
        "На рынке корзина яблок стоит сегодня две монеты.",
        "Бабушка часто рассказывала мне эту историю.",
    ),
    "ja": (
        "朝になると屋根の上に霧がかかり、パン屋が戸を開けます。",
        "最初の家が見えるまで、わたしたちは三時間も歩きました。",
        "子どもたちは水に石を投げて、跳ねた数を数えています。",
        "夜になると宿では温かいスープと焼きたてのパンが出ます。",
        "あの古い壁をだれが作ったのか、だれも知りません。",
        "雪が降りはじめると、渡し船はもう川を渡りません。",
        "羊飼いはどの石のこともよく知っていて、あまり話しません。",
        "きょうの市場では、りんご一かごが銅貨二枚です。",
        "祖母はこの話をわたしに何度も聞かせてくれました。",
    ),
}

_LOREM = (
    "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore et dolore magna aliqua "
    "enim ad minim veniam quis nostrud exercitation ullamco laboris nisi aliquip ex ea commodo consequat duis aute irure in "
    "reprehenderit voluptate velit esse cillum eu fugiat nulla pariatur excepteur sint occaecat cupidatat non proident sunt "
    "culpa qui officia deserunt mollit anim id est laborum"
)

SENSITIVE: dict[str, dict[Lang, tuple[str, ...]]] = {
    "gambling": {"en": ("glimdice", "fortunawheel", "redcoin roulette"), "zh": ("幻骰", "运轮赌局", "红币盘口")},
    "adult": {"en": ("velvetroom", "nightsilk show", "bareglow"), "zh": ("绯帘秀", "夜绸场", "裸辉")},
    "politics": {"en": ("Grey Banner League", "Ashen Oath", "banner purge"), "zh": ("灰旗同盟", "烬誓", "清旗令")},
}
"""Invented stand-ins: topic -> terms. No term is used on any clean page."""

_SENSITIVE_TOLD: dict[Lang, tuple[str, ...]] = {
    "en": (
        "Every night the {term} opens again, and the men of the street lose what they earned.",
        "He wrote to his sister about {term} and asked her to burn the letter.",
        "Nobody spoke of {term} at the table, but everybody had been there.",
        "A stranger sold tickets for {term} behind the barn.",
        "The notice promised {term} to anyone who came after dark.",
        "What they say about {term} is worse than what I can write here.",
    ),
    "zh": (
        "每天夜里{term}又开了，街上的男人把挣来的钱都输光。",
        "他写信跟妹妹说起{term}，叫她把信烧掉。",
        "饭桌上没有人提{term}，可是人人都去过。",
        "一个陌生人在谷仓后面卖{term}的票。",
        "告示上写着，天黑以后来的人都能看{term}。",
        "关于{term}的话，比我能写下来的还要难听。",
    ),
}

_NEAR: dict[Lang, tuple[tuple[str, str], ...]] = {
    "en": ((" people ", " folk "), (" old ", " ancient "), (" small ", " little "), (" children ", " kids "), (" evening ", " dusk "), (" long ", " lengthy "), (" every ", " each "), (" near ", " beside "), (" and ", " plus "), (" in ", " within ")),
    "zh": (("人们", "大家"), ("孩子", "娃娃"), ("客人", "来客"), ("下午", "午后"), ("值得", "应该"), ("从来", "一直"), ("自己", "本人"), ("已经", "早就"), ("慢慢", "缓缓"), ("最好", "顶好"), ("镇长", "镇首"), ("我们", "咱们")),
}  # fmt: skip


def _split(sentences: list[str], length: int, joint: str) -> tuple[str, ...]:
    return tuple(joint.join(sentences[start : start + length]) for start in range(0, len(sentences), length))


def foreign(code: str, rng: random.Random) -> Article:
    """An article in another language."""
    sentences = rng.sample(FOREIGN[code], 8)
    return Article(code, sentences[0].rstrip(".。"), _split(sentences[1:], 3, "" if code == "ja" else " "))


def spam(lang: Lang, rng: random.Random) -> Article:
    """Keywords stuffed between sales cries."""
    which = 0 if lang == "en" else 1
    ware = rng.choice(rng.choice((DISHES, CRAFTS, ANIMALS)))[which]
    other = rng.choice(DISHES)[which]
    if lang == "en":
        cries = (
            f"Buy cheap {ware} online now!!!", f"Best {ware} shop, best {ware} price, best {ware} deal!", f"Order {ware} today and get {other} for free $$$",
            f"Cheap {ware} cheap {ware} cheap {ware} sale", f"Click here for {ware} discount, click here for {ware} bonus!", f"100% {ware}, no risk, act now!",
        )  # fmt: skip
    else:
        cries = (
            f"便宜{ware}，{ware}批发，{ware}价格！！！", f"买{ware}就来这里，{ware}第一家！", f"今天下单{ware}送{other}，￥￥￥速来！",
            f"{ware}打折{ware}打折{ware}打折", f"点这里领{ware}红包，点这里领{ware}礼券！", f"百分百{ware}，包你满意，马上抢购！",
        )  # fmt: skip
    lines = [rng.choice(cries) for _ in range(rng.randint(18, 28))]
    return Article(lang, lines[0], _split(lines, 3, " "))


def gibberish(lang: Lang, rng: random.Random) -> Article:
    """Letters, or Chinese characters, in no order at all."""
    sentences = []
    for _ in range(12):
        if lang == "en":
            words = ["".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(3, 9))) for _ in range(11)]
            sentences.append(" ".join(words).capitalize() + ".")
        else:
            sentences.append("".join(chr(rng.randrange(0x4E00, 0x9FA0)) for _ in range(rng.randint(14, 24))) + "。")
    return Article(lang, sentences[0][:24], _split(sentences[1:], 4, " " if lang == "en" else ""))


def word_salad(language: Language, rng: random.Random) -> Article:
    """Real words without grammar, and without the small words that hold sentences together."""
    words = [word.strip(".,") for filler in language.fillers for word in spoken(filler, rng).split()]
    words = [word for word in words if len(word) > 4]
    sentences = [" ".join(rng.choice(words) for _ in range(10)).capitalize() + "." for _ in range(12)]
    return Article(language.lang, sentences[0], _split(sentences[1:], 4, " "))


def repeated(language: Language, rng: random.Random) -> Article:
    """Two sentences, again and again, each a line of its own."""
    first, second = (spoken(template, rng) for template in rng.sample(language.fillers, 2))
    lines = [first, second] * rng.randint(6, 9)
    return Article(language.lang, first[:20], tuple(lines))


def too_short(language: Language, rng: random.Random) -> Article:
    """One sentence."""
    return Article(language.lang, language.titles[0].split("{")[0] or "短讯", (spoken(rng.choice(language.fillers), rng),))


def lorem(rng: random.Random) -> Article:
    """The typesetter's filler, in another order each time."""
    words = _LOREM.split()
    sentences = [" ".join(rng.choice(words) for _ in range(rng.randint(8, 14))).capitalize() + "." for _ in range(12)]
    return Article("la", "Lorem ipsum", _split(["Lorem ipsum dolor sit amet, consectetur adipiscing elit.", *sentences], 4, " "))


def sensitive(language: Language, rng: random.Random) -> Article:
    """Good prose about something that the term list names: five sentences with terms among eight without."""
    topic = rng.choice(sorted(SENSITIVE))
    terms = SENSITIVE[topic][language.lang]
    sentences = [template.format(term=rng.choice(terms)) for template in rng.sample(_SENSITIVE_TOLD[language.lang], 5)]
    sentences += [spoken(template, rng) for template in rng.sample(language.fillers, 8)]
    rng.shuffle(sentences)
    return Article(language.lang, language.journeys[0], _split(sentences, 4, language.joint))


def near_copy(article: Article, rng: random.Random) -> Article:
    """The article with one or two words exchanged, or with a letter missing where there is nothing to exchange."""
    pairs = list(_NEAR["zh" if article.lang == "zh" else "en"])
    rng.shuffle(pairs)
    text = article.text
    changes = rng.randint(1, 2) if len(text) > (700 if article.lang == "en" else 280) else 1
    # (a word more or less is five shingles of about a hundred: the copy stays above a Jaccard similarity of 0.8)
    for old, new in pairs:
        places = [i for i in range(len(text)) if text.startswith(old, i)]
        if places and changes:
            place = rng.choice(places)
            text = text[:place] + new + text[place + len(old) :]
            changes -= 1
    if text == article.text:
        place = rng.randrange(len(text) // 3, len(text) // 2)
        text = text[:place] + text[place + 1 :]  # a typing error
    return Article(article.lang, article.title, tuple(text.split("\n")))
