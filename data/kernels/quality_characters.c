/* What is counted of a text character by character. */
#include "quality.h"

/* Whether `word` stands at `at`; with `any_case` also in capitals, and it is given in small letters then. */
static int stands_at(const Text *text, Py_ssize_t at, const char *word, int any_case)
{
    if (at < 0)
        return 0;
    for (; *word; word++, at++)
        if (at >= text->length || (text->codes[at] | (any_case && *word >= 'a' ? 32 : 0)) != (Py_UCS4)*word)
            return 0;
    return 1;
}

/* Addresses, tags, braces and entities that an extractor left. */
static int is_markup(const Text *text, Py_ssize_t at)
{
    static const char *const entities[] = {"&nbsp;", "&amp;", "&lt;", "&gt;", "&quot;"};
    const Py_UCS4 *here = text->codes + at;
    switch (*here) {
    case '{':
    case '}':
        return 1;
    case ':':
        return here[1] == '/' && here[2] == '/';
    case '.':
        return at >= 3 && here[-1] == 'w' && here[-2] == 'w' && here[-3] == 'w';
    case '<':
        return ((here[1] == '/' ? here[2] : here[1]) | 32) - 'a' <= 'z' - 'a';
    case '&':
        for (size_t i = 0; i < sizeof entities / sizeof *entities; i++)
            if (stands_at(text, at, entities[i], 0))
                return 1;
    }
    return 0;
}

/* A pair that UTF-8 leaves when read as Latin-1 or windows-1252: Ã, Â, â and the like, followed by symbols. */
static int is_mojibake(Py_UCS4 lead, Py_UCS4 follow)
{
    return lead - 0xC2 <= 0xF4 - 0xC2 && (follow - 0x80 <= 0x3F || follow - 0x2010 <= 0x2122 - 0x2010 || follow == 0x20AC);
}

/* Whether the mark at `at` ends a sentence and more text follows on its line: closers, white space where needed, text. */
static int ends_within_line(const Text *text, Py_ssize_t at, uint16_t closer, int needs_space)
{
    do
        at++;
    while (at < text->length && text->traits[at] & closer);
    if (is_shown(text, at))
        return !needs_space;
    while (at < text->length && text->codes[at] != '\n' && !is_shown(text, at))
        at++;
    return at < text->length && text->codes[at] != '\n';
}

/* One of the characters that more is asked of than what they are. */
static void count_watched(const Text *text, Py_ssize_t at, Counts *counts)
{
    Py_UCS4 code = text->codes[at];
    uint16_t traits = text->traits[at];
    if (traits & SPACED_END)
        counts->sentences += ends_within_line(text, at, SPACED_CLOSER, 1);
    else if (traits & UNSPACED_END)
        counts->sentences += ends_within_line(text, at, UNSPACED_CLOSER, 0);
    counts->markup += is_markup(text, at);
    if (is_mojibake(code, text->codes[at + 1]))
        counts->unreadable += 2;
    switch (code) {
    case '\n':
        counts->newlines++;
        break;
    case '#':
    case 0xFF03:
        counts->hashes++;
        break;
    case 0x2026: /* … */
        counts->ellipses++;
        break;
    case '.': /* full stops by threes, at the first of a row */
        if (!at || text->codes[at - 1] != '.') {
            Py_ssize_t end = at;
            while (end < text->length && text->codes[end] == '.')
                end++;
            counts->ellipses += (end - at) / 3;
        }
        break;
    case '{':
        counts->curly_brackets++;
        break;
    case 'p':
    case 'P':
        counts->lorem_ipsums += stands_at(text, at - 7, "lorem ipsum", 1);
        break;
    default:
        counts->unreadable += code == 0xFFFD || code - 0xE000 <= 0xF8FF - 0xE000; /* private characters */
    }
}

/* A bit for each character of a block that has one of the `traits`. */
static inline uint64_t bits_with(const uint16_t *block, uint16_t traits)
{
    uint8_t have[BLOCK];
    for (int i = 0; i < BLOCK; i++)
        have[i] = (block[i] & traits) != 0;
    return bits_of(have);
}

/* How many of the tokens that end in or before a block have a character of `letters`, a part of them: of a row of bits that something is
   added to, the carry leaves the row. `carry`: whether the token before the block has one, and then whether the last one has. */
static inline uint64_t ends_with_letter(uint64_t tokens, uint64_t letters, uint64_t *carry)
{
    uint64_t ended = *carry & ~tokens; /* right before the block */
    letters |= *carry & tokens;
    uint64_t sum = tokens + letters;
    *carry = sum < tokens;
    return (sum & ~tokens & tokens << 1) | ended;
}

/* Characters by what they are, and whitespace-separated tokens, as Gopher counts words; a table's bars are none. */
void count_characters(const Text *text, Counts *counts)
{
    uint64_t inside = 0, carry = 0; /* of the token so far */
    for (Py_ssize_t at = 0; at <= text->length; at += BLOCK) {
        const uint16_t *block = text->traits + at;
        /* behind the text stands white space */
        uint64_t here = text->length - at < BLOCK ? (UINT64_C(1) << (text->length - at)) - 1 : ~UINT64_C(0);
        uint64_t low = bits_with(block, CLASS & LETTER), high = bits_with(block, CLASS & UNSPACED), digits = bits_with(block, DIGIT);
        uint64_t tokens = bits_with(block, TOKEN) & here;
        counts->shown += count_bits((low | high) & here);
        counts->others += count_bits(low & high & here);
        counts->letters += count_bits((low ^ high) & here);
        counts->alphabetic += count_bits((low ^ high) & ~digits & here);
        counts->digits += count_bits(digits & here);
        counts->capitals += count_bits(bits_with(block, CAPITAL) & here);
        counts->punctuation += count_bits(bits_with(block, PUNCTUATION) & here);
        counts->token_characters += count_bits((low | high) & ~bits_with(block, BAR) & here);
        counts->tokens += count_bits(tokens & ~(tokens << 1 | inside));
        counts->tokens_with_letter += count_bits(ends_with_letter(tokens, tokens & bits_with(block, LETTERED), &carry));
        inside = tokens >> (BLOCK - 1);
        for (uint64_t bits = bits_with(block, WATCHED) & here; bits; bits &= bits - 1)
            count_watched(text, at + lowest(bits), counts);
    }
}
