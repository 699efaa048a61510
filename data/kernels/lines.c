/* Lines of a text with what is seen of each without its language: data/corpus/lines.py decides which of them are chrome. */
#include "text.h"

/* Marks of a line, as lines.py names them. */
enum {
    REPEATED = 1,   /* it stood before, and is no short one */
    LETTERLESS = 2, /* figures and signs alone */
    SHOUTED = 4,    /* capitals, most of it */
    SEPARATED = 8,  /* short pieces between separators may be in it, and it ends no sentence */
    ENDLESS = 16,   /* it has a word that is none */
};
#define REPEATABLE 12  /* shorter lines may stand twice */
#define SHORT 200      /* longer lines are prose */
#define WORD 1000      /* C4: a line with a longer word is no text */
#define CAPITALS 0.6   /* RefinedWeb: "mainly composed of uppercase characters" */
#define SEPARATORS 3   /* of four pieces */

static int is_one_of(Py_UCS4 code, const Py_UCS4 *set)
{
    for (; *set; set++)
        if (*set == code)
            return 1;
    return 0;
}

static int is_letterless(const Py_UCS4 *line, Py_ssize_t length)
{
    for (Py_ssize_t at = 0; at < length; at++)
        if (Py_UNICODE_ISALNUM(line[at]) && !Py_UNICODE_ISDECIMAL(line[at]))
            return 0;
    return 1;
}

static int is_shouted(const Py_UCS4 *line, Py_ssize_t length)
{
    Py_ssize_t letters = 0, capitals = 0, words = 1; /* a line is trimmed */
    for (Py_ssize_t at = 0; at < length; at++) {
        Py_UCS4 code = line[at];
        if (code - 'a' <= 'z' - 'a') {
            letters++;
        } else if (is_space(code)) {
            words += !is_space(line[at - 1]);
        } else {
            letters += Py_UNICODE_ISALPHA(code) != 0;
            capitals += Py_UNICODE_ISUPPER(code) != 0;
        }
    }
    return letters > 15 && (double)capitals > CAPITALS * (double)letters && words > 3;
}

static int ends_sentence(const Py_UCS4 *line, Py_ssize_t length)
{
    static const Py_UCS4 marks[] = {'.', '!', '?', 0x3002, 0xFF01, 0xFF1F, 0x2026, 0};
    static const Py_UCS4 closers[] = {'"', '\'', 0x201D, 0x2019, 0x300D, 0x300F, 0xFF09, ')', 0};
    while (length && is_one_of(line[length - 1], closers))
        length--;
    return length && is_one_of(line[length - 1], marks);
}

static int is_separated(const Py_UCS4 *line, Py_ssize_t length)
{
    static const Py_UCS4 anywhere[] = {'|', 0xBB, 0x203A, 0xB7, 0x2022, 0xFF0F, 0x4E28, 0};
    static const Py_UCS4 between_blanks[] = {'>', '/', 0x2013, 0x2014, '-', 0};
    int found = 0;
    for (Py_ssize_t at = 0; at < length && found < SEPARATORS; at++) {
        Py_UCS4 code = line[at];
        if (code - 'a' <= 'z' - 'a' || code == ' ')
            continue;
        found += is_one_of(code, anywhere) ||
                 (at && at + 1 < length && is_space(line[at - 1]) && is_space(line[at + 1]) && is_one_of(code, between_blanks));
    }
    return found >= SEPARATORS && line[0] != '|' && !ends_sentence(line, length);
}

static int is_endless(const Py_UCS4 *line, Py_ssize_t length)
{
    Py_ssize_t run = 0;
    for (Py_ssize_t at = 0; at < length && run <= WORD; at++)
        run = line[at] - '!' <= '~' - '!' ? run + 1 : 0;
    return run > WORD;
}

static int marks_of(const Py_UCS4 *line, Py_ssize_t length)
{
    if (is_letterless(line, length))
        return LETTERLESS;
    if (length > SHORT)
        return length > WORD && is_endless(line, length) ? ENDLESS : 0;
    return (is_shouted(line, length) ? SHOUTED : 0) | (is_separated(line, length) ? SEPARATED : 0);
}

static int add_line(PyObject *lines, Counter *before, const Py_UCS4 *codes, Py_ssize_t begin, Py_ssize_t end)
{
    Py_ssize_t start = begin;
    while (start < end && is_space(codes[start]))
        start++;
    while (end > start && is_space(codes[end - 1]))
        end--;
    int marks = end > start ? marks_of(codes + start, end - start) : 0;
    if (end - start >= REPEATABLE) {
        uint64_t hash = hash_codes(codes + start, end - start);
        Slot *slot = counter_find(before, hash);
        marks |= slot->count ? REPEATED : 0;
        *slot = (Slot){hash, 1, 0};
    }
    return append_new(lines, Py_BuildValue("nnni", begin, start, end, marks));
}

PyObject *mark_lines(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *text;
    if (!PyArg_ParseTuple(arguments, "U", &text))
        return NULL;
    Py_ssize_t length;
    Py_UCS4 *codes = take_codes(text, &length);
    PyObject *lines = codes ? PyList_New(0) : NULL;
    Counter before = {0};
    size_t ends = 1;
    for (Py_ssize_t at = 0; codes && at < length; at++)
        ends += codes[at] == '\n';
    if (lines && counter_reset(&before, ends))
        Py_CLEAR(lines);
    for (Py_ssize_t begin = 0; lines && begin <= length;) {
        Py_ssize_t end = begin;
        while (end < length && codes[end] != '\n')
            end++;
        if (add_line(lines, &before, codes, begin, end))
            Py_CLEAR(lines);
        begin = end + 1;
    }
    PyMem_Free(before.slots);
    PyMem_Free(codes);
    return lines;
}
