/* Where in a text personal data may stand: what data/corpus/personal_data.py then looks at by its patterns. */
#include "text.h"

#define STEP 4         /* from a digit of a number to the next one, at most */
#define DIGITS 7       /* of a number, at least */
#define DOTTED 8       /* from the first dot of an IPv4 address to the last, at most */
#define IPV6_COLONS 7  /* of an address without "::" */

static inline int is_hexadecimal(Py_UCS4 code)
{
    return code - '0' <= 9 || (code | 32) - 'a' <= 'f' - 'a';
}

/* A bit for each of BLOCK characters that more is asked of: digits, the colon behind them, the @. Where the others stand that are decimal says
   is_decimal. */
static inline uint64_t watched(const Py_UCS4 *codes)
{
    uint8_t are_watched[BLOCK];
    for (int i = 0; i < BLOCK; i++)
        are_watched[i] = (codes[i] - '0' <= ':' - '0') | (codes[i] == '@') | (codes[i] - FIRST_DECIMAL < NO_DECIMAL - FIRST_DECIMAL) |
                         (codes[i] > LAST_NO_DECIMAL);
    return bits_of(are_watched);
}

/* Whether the colon at `at` is the second of "::", or the seventh of a stretch of hexadecimal digits and colons. */
static int may_be_ipv6(const Py_UCS4 *codes, Py_ssize_t at)
{
    if (at && codes[at - 1] == ':')
        return 1;
    int colons = 1;
    while (at-- && colons < IPV6_COLONS && (codes[at] == ':' || is_hexadecimal(codes[at])))
        colons += codes[at] == ':';
    return colons == IPV6_COLONS;
}

static int add_run(PyObject *runs, Py_ssize_t count, Py_ssize_t first, Py_ssize_t last)
{
    return count < DIGITS ? 0 : append_new(runs, Py_BuildValue("nn", first, last));
}

typedef struct {
    const Py_UCS4 *codes;
    int wide, signs, ipv4, ipv6;
    Py_ssize_t count, first, last; /* of the row so far: its digits, and the places of the first and the last */
    Py_ssize_t dots[2];            /* the two dots before, each between digits */
    PyObject *runs;
} Places;

/* One of the characters that are watched; 0, or -1 with an exception set. */
static int take_character(Places *places, Py_ssize_t at)
{
    Py_UCS4 code = places->codes[at];
    if (code == ':' && !places->ipv6)
        places->ipv6 = may_be_ipv6(places->codes, at);
    places->signs |= code == '@';
    places->wide |= code - 0xFF10 <= 9 || code == 0xFF20;
    if (!is_decimal(code))
        return 0;
    if (at - places->last == 2 && places->codes[at - 1] == '.') {
        places->ipv4 |= at - 1 - places->dots[0] <= DOTTED;
        places->dots[0] = places->dots[1];
        places->dots[1] = at - 1;
    }
    if (at - places->last > STEP) {
        if (add_run(places->runs, places->count, places->first, places->last))
            return -1;
        places->count = 0;
        places->first = at;
    }
    places->count++;
    places->last = at;
    return 0;
}

static int take_all(Places *places, Py_ssize_t length)
{
    for (Py_ssize_t block = 0; block < length; block += BLOCK)
        for (uint64_t bits = watched(places->codes + block); bits; bits &= bits - 1)
            if (take_character(places, block + lowest(bits)))
                return -1;
    return add_run(places->runs, places->count, places->first, places->last);
}

PyObject *number_places(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *text, *found = NULL;
    if (!PyArg_ParseTuple(arguments, "O", &text))
        return NULL;
    Py_ssize_t length;
    Py_UCS4 *codes = take_codes(text, PY_SSIZE_T_MAX, &length);
    Places places = {.codes = codes, .last = -STEP - 1, .dots = {-DOTTED - 1, -DOTTED - 1}, .runs = codes ? PyList_New(0) : NULL};
    if (places.runs && !take_all(&places, length))
        found = Py_BuildValue("NNNNO", PyBool_FromLong(places.wide), PyBool_FromLong(places.signs), PyBool_FromLong(places.ipv4),
                              PyBool_FromLong(places.ipv6), places.runs);
    Py_XDECREF(places.runs);
    PyMem_Free(codes);
    return found;
}
