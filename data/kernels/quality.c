/* Everything of a text that is counted for the measures of quality; what is made of the counts is data/corpus/quality.py's. */
#include "repetition.h"
#include "text.h"

/* What a character is, as data/corpus/quality.py says it in a table: its class in the two lowest bits, and these. */
enum {
    CLASS = 3,
    DIGIT = 4,
    CAPITAL = 8,
    PUNCTUATION = 16,
    KINDS = 32, /* of the five bits so far, by which characters are counted */
    BAR = 32,
    WATCHED = 64, /* more is asked of it and of what stands beside it */
    BULLET = 128,
    TERMINAL = 256,
    SPACED_END = 512,       /* ends a sentence before white space */
    UNSPACED_END = 1024,    /* ends one before anything */
    SPACED_CLOSER = 2048,   /* may stand between the end and the white space */
    UNSPACED_CLOSER = 4096,
};
#define TRAITS 0x20001 /* entries of the table, of which the last is that of all characters beyond */
#define DISTINCT_WORDS 1000 /* the share of distinct words falls with length, so the length is bounded */
#define LONGEST_STOP_WORD 4 /* characters */
#define ENGLISH 0xFF        /* bits of the stop words of spaced text; those above are Chinese */

/* The counts of a text in their order, int64 each. */
#define COUNTS(X) \
    X(words) X(unspaced_words) X(word_characters) X(distinct_words) X(stop_words) \
    X(tokens) X(token_characters) X(tokens_with_letter) X(letters) X(alphabetic) X(shown) X(others) X(punctuation) \
    X(digits) X(capitals) X(unreadable) X(hashes) X(ellipses) X(curly_brackets) X(lorem_ipsums) X(markup) X(newlines) \
    X(lines) X(prose_lines) X(bullet_lines) X(ellipsis_lines) X(punctuated_lines) X(short_lines) X(sentences) \
    X(line_characters) X(repeated_lines) X(repeated_line_characters) \
    X(paragraphs) X(paragraph_characters) X(repeated_paragraphs) X(repeated_paragraph_characters) \
    X(top_2gram_characters) X(top_3gram_characters) X(top_4gram_characters) \
    X(duplicate_5gram_characters) X(duplicate_6gram_characters) X(duplicate_7gram_characters) \
    X(duplicate_8gram_characters) X(duplicate_9gram_characters) X(duplicate_10gram_characters)
#define FIELD(name) int64_t name;
#define NAME(name) #name,
typedef struct {
    COUNTS(FIELD)
} Counts;
static const char *const names[] = {COUNTS(NAME)};
#define COUNT_OF_NAMES (sizeof names / sizeof *names)

/* What is the same for all texts. */
typedef struct {
    Classes classes;
    const uint16_t *traits;
    Counter stop_words; /* note: the number of the word */
} Tables;

/* One text: `length` characters and a line end behind them, and what each of these is. */
typedef struct {
    const Py_UCS4 *codes;
    const uint16_t *traits;
    Py_ssize_t length;
} Text;

static inline int is_shown(const Text *text, Py_ssize_t at)
{
    return (text->traits[at] & CLASS) != SPACE;
}

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
static void count_characters(const Text *text, Counts *counts)
{
    int64_t kinds[2][KINDS] = {{0}}; /* two, so that neighbours of one kind do not wait for each other */
    int64_t bars = 0;
    uint16_t inside = 0, has_letter = 0; /* of the token so far */
    for (Py_ssize_t at = 0; at < text->length; at++) {
        uint16_t traits = text->traits[at];
        kinds[at & 1][traits & (KINDS - 1)]++;
        uint16_t class = traits & CLASS, bar = (traits & BAR) != 0;
        uint16_t of_token = (class != SPACE) & !bar, letter = ((class == LETTER) | (class == UNSPACED)) & !(traits & DIGIT);
        bars += bar;
        counts->tokens += of_token & !inside;
        has_letter &= inside & of_token;
        counts->tokens_with_letter += letter & !has_letter;
        has_letter |= letter;
        inside = of_token;
        if (traits & WATCHED)
            count_watched(text, at, counts);
    }
    for (int kind = 0; kind < KINDS; kind++) {
        int64_t count = kinds[0][kind] + kinds[1][kind];
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

/* Of the first words how many differ, and how many different stop words there are. */
static int count_kinds(const Words *words, const Counter *stop_words, Counter *counter, Counts *counts)
{
    Py_ssize_t first = words->count < DISTINCT_WORDS ? words->count : DISTINCT_WORDS;
    if (counter_reset(counter, (size_t)first))
        return -1;
    for (Py_ssize_t i = 0; i < first; i++) {
        Slot *slot = counter_find(counter, words->hashes[i]);
        counts->distinct_words += !slot->count;
        slot->key = words->hashes[i];
        slot->count = 1;
    }
    uint64_t found = 0;
    for (Py_ssize_t i = 0; i < words->count; i++) {
        if (words->ends[i] - words->starts[i] > LONGEST_STOP_WORD)
            continue;
        const Slot *slot = counter_find(stop_words, words->hashes[i]);
        if (slot->count)
            found |= UINT64_C(1) << slot->note;
    }
    found &= words->singles * 2 > words->count ? ~(uint64_t)ENGLISH : ENGLISH;
    for (; found; found &= found - 1)
        counts->stop_words++;
    return 0;
}

/* Counts a stretch among those seen before; 1 where it is a later copy. */
static int stood_before(Counter *counter, uint64_t hash)
{
    Slot *slot = counter_find(counter, hash);
    int before = slot->count != 0;
    slot->key = hash;
    slot->count = 1;
    return before;
}

static void count_line(const Text *text, Py_ssize_t start, Py_ssize_t end, Py_ssize_t shortest, Counts *counts)
{
    Py_UCS4 first = text->codes[start], last = text->codes[end - 1];
    int dots = (last == '.' || last == 0x3002) && end - start >= 3 && text->codes[end - 2] == last && text->codes[end - 3] == last;
    counts->lines++;
    counts->sentences++;
    counts->line_characters += end - start;
    counts->bullet_lines += (text->traits[start] & BULLET) != 0;
    counts->ellipsis_lines += dots || last == 0x2026;
    if (first != '|') { /* a table's rows end in no full stop */
        counts->prose_lines++;
        counts->punctuated_lines += (text->traits[end - 1] & TERMINAL) != 0;
        counts->short_lines += end - start <= shortest;
    }
}

static void count_paragraph(const Text *text, Py_ssize_t start, Py_ssize_t end, Counter *counter, Counts *counts)
{
    counts->paragraphs++;
    counts->paragraph_characters += end - start;
    if (stood_before(counter, hash_codes(text->codes + start, end - start))) {
        counts->repeated_paragraphs++;
        counts->repeated_paragraph_characters += end - start;
    }
}

/* Lines that are not blank, trimmed, and paragraphs: lines without a blank one between them. */
static int count_lines(const Text *text, int unspaced, Counter *lines, Counter *paragraphs, Counts *counts)
{
    /* FineWeb's 30 characters, of which Chinese needs about half */
    Py_ssize_t shortest = unspaced ? 15 : 30, paragraph = -1, paragraph_end = 0;
    size_t most = (size_t)counts->newlines + 1;
    if (counter_reset(lines, most) || counter_reset(paragraphs, most))
        return -1;
    for (Py_ssize_t at = 0; at <= text->length; at++) { /* the line end behind the text included */
        Py_ssize_t start = at;
        while (text->codes[at] != '\n')
            at++;
        Py_ssize_t end = at;
        while (start < end && !is_shown(text, start))
            start++;
        while (end > start && !is_shown(text, end - 1))
            end--;
        if (start == end) {
            if (paragraph >= 0)
                count_paragraph(text, paragraph, paragraph_end, paragraphs, counts);
            paragraph = -1;
            continue;
        }
        count_line(text, start, end, shortest, counts);
        if (stood_before(lines, hash_codes(text->codes + start, end - start))) {
            counts->repeated_lines++;
            counts->repeated_line_characters += end - start;
        }
        paragraph = paragraph < 0 ? start : paragraph;
        paragraph_end = end;
    }
    if (paragraph >= 0)
        count_paragraph(text, paragraph, paragraph_end, paragraphs, counts);
    return 0;
}

/* Memory that is used again from text to text. */
typedef struct {
    Words words;
    uint16_t *traits;
    Py_ssize_t allocated;
    Counter kinds, paragraphs;
    Repetition repetition;
} Memory;

static int make_room(Memory *memory, Py_ssize_t length)
{
    if (memory->traits && length <= memory->allocated)
        return 0;
    end_words(&memory->words);
    PyMem_Free(memory->traits);
    memory->traits = PyMem_Malloc(((size_t)length + 1) * sizeof *memory->traits);
    if (!memory->traits) {
        PyErr_NoMemory();
        return -1;
    }
    memory->allocated = length;
    return new_words(&memory->words, length);
}

static int count_text(const Text *text, const Tables *tables, Memory *memory, Counts *counts)
{
    Words *words = &memory->words;
    words->count = words->singles = 0;
    find_words(words, text->codes, text->length, tables->classes);
    int unspaced = words->singles * 2 > words->count;
    counts->words = words->count;
    counts->unspaced_words = words->singles;
    count_characters(text, counts);
    if (count_kinds(words, &tables->stop_words, &memory->kinds, counts) ||
        count_lines(text, unspaced, &memory->kinds, &memory->paragraphs, counts) ||
        count_repetition(&memory->repetition, words, unspaced ? 2 : 1, &counts->top_2gram_characters))
        return -1;
    counts->word_characters = memory->repetition.ends[words->count];
    return 0;
}

/* The counts of one str, of its first `most` characters. */
static int count_object(PyObject *object, Py_ssize_t most, const Tables *tables, Memory *memory, Counts *counts)
{
    Py_ssize_t length;
    PyObject *beginning = PyUnicode_Check(object) ? PyUnicode_Substring(object, 0, most) : PyErr_Format(PyExc_TypeError, "texts are str");
    Py_UCS4 *codes = beginning ? take_codes(beginning, &length) : NULL;
    Py_XDECREF(beginning);
    if (!codes)
        return -1;
    int failed = make_room(memory, length);
    if (!failed) {
        codes[length] = '\n';
        for (Py_ssize_t at = 0; at <= length; at++)
            memory->traits[at] = tables->traits[codes[at] < TRAITS ? codes[at] : TRAITS - 1];
        Text text = {codes, memory->traits, length};
        failed = count_text(&text, tables, memory, counts);
    }
    PyMem_Free(codes);
    return failed;
}

static int take_stop_words(Counter *counter, const Array *hashes, const Array *numbers)
{
    const uint64_t *hash = hashes->items;
    const uint8_t *number = numbers->items;
    if (counter_reset(counter, (size_t)hashes->count))
        return -1;
    for (Py_ssize_t i = 0; i < hashes->count; i++) {
        Slot *slot = counter_find(counter, hash[i]);
        *slot = (Slot){hash[i], 1, number[i] & 63};
    }
    return 0;
}

PyObject *quality_counts(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *given, *objects[4], *texts = NULL, *found = NULL;
    Py_ssize_t most;
    if (!PyArg_ParseTuple(arguments, "OnOOOO", &given, &most, &objects[0], &objects[1], &objects[2], &objects[3]))
        return NULL;
    Array arrays[4];
    memset(arrays, 0, sizeof arrays);
    Tables tables = {0};
    Memory memory = {0};
    if (most < 0 || most > UINT32_MAX / 2) { /* places are kept in 32 bits */
        PyErr_Format(PyExc_ValueError, "texts are measured up to %zd characters, not to %zd", (Py_ssize_t)(UINT32_MAX / 2), most);
        goto end;
    }
    if (take_classes(&arrays[0], &tables.classes, objects[0]) || take_array(&arrays[1], objects[1], 2, TRAITS, 0) ||
        take_array(&arrays[2], objects[2], 8, 0, 0) || take_array(&arrays[3], objects[3], 1, arrays[2].count, 0) ||
        take_stop_words(&tables.stop_words, &arrays[2], &arrays[3]) || !(texts = PySequence_Fast(given, "texts are a sequence")))
        goto end;
    tables.traits = arrays[1].items;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(texts);
    if (count > PY_SSIZE_T_MAX / (Py_ssize_t)sizeof(Counts)) {
        PyErr_NoMemory();
        goto end;
    }
    found = PyBytes_FromStringAndSize(NULL, count * (Py_ssize_t)sizeof(Counts));
    for (Py_ssize_t i = 0; found && i < count; i++) {
        Counts counts = {0};
        if (count_object(PySequence_Fast_GET_ITEM(texts, i), most, &tables, &memory, &counts))
            Py_CLEAR(found);
        else
            memcpy(PyBytes_AS_STRING(found) + i * (Py_ssize_t)sizeof counts, &counts, sizeof counts);
    }
end:
    Py_XDECREF(texts);
    PyMem_Free(tables.stop_words.slots);
    PyMem_Free(memory.kinds.slots);
    PyMem_Free(memory.paragraphs.slots);
    PyMem_Free(memory.traits);
    end_words(&memory.words);
    end_repetition(&memory.repetition);
    for (int i = 0; i < 4; i++)
        give_back(&arrays[i]);
    return found;
}

PyObject *quality_names(void)
{
    PyObject *found = PyTuple_New(COUNT_OF_NAMES);
    for (size_t i = 0; found && i < COUNT_OF_NAMES; i++) {
        PyObject *name = PyUnicode_FromString(names[i]);
        if (!name) {
            Py_CLEAR(found);
            break;
        }
        PyTuple_SET_ITEM(found, (Py_ssize_t)i, name);
    }
    return found;
}
