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

/* Characters by what they are, and whitespace-separated tokens, as Gopher counts words; a table's bars are none. */
void count_characters(const Text *text, Counts *counts)
{
    uint32_t kinds[4][KINDS] = {{0}}; /* four, so that neighbours of one kind do not wait for each other */
    int64_t bars = 0, tokens = 0, tokens_with_letter = 0;
    unsigned inside = 0, has_letter = 0; /* of the token so far */
    for (Py_ssize_t at = 0; at < text->length; at++) {
        unsigned traits = text->traits[at];
        kinds[at & 3][traits & (KINDS - 1)]++;
        unsigned token = (traits & TOKEN) != 0, letter = (has_letter | ((traits & LETTERED) != 0)) & token;
        tokens += token & ~inside;
        tokens_with_letter += letter & ~has_letter;
        inside = token;
        has_letter = letter;
        bars += (traits & BAR) != 0;
        if (traits & WATCHED)
            count_watched(text, at, counts);
    }
    counts->tokens = tokens;
    counts->tokens_with_letter = tokens_with_letter;
    for (int kind = 0; kind < KINDS; kind++) {
        int64_t count = (int64_t)kinds[0][kind] + kinds[1][kind] + kinds[2][kind] + kinds[3][kind];
        int class = kind & CLASS;
        counts->shown += class != SPACE ? count : 0;
        counts->others += class == OTHER ? count : 0;
        counts->letters += class == LETTER || class == UNSPACED ? count : 0;
        counts->alphabetic += (class == LETTER || class == UNSPACED) && !(kind & DIGIT) ? count : 0;
        counts->digits += kind & DIGIT ? count : 0;
        counts->capitals += kind & CAPITAL ? count : 0;
        counts->punctuation += kind & PUNCTUATION ? count : 0;
    }
    counts->token_characters = counts->shown - bars;
}
