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

PyObject *number_places(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *text;
    if (!PyArg_ParseTuple(arguments, "U", &text))
        return NULL;
    Py_ssize_t length;
    Py_UCS4 *codes = take_codes(text, &length);
    PyObject *runs = codes ? PyList_New(0) : NULL;
    int wide = 0, ipv4 = 0, ipv6 = 0, failed = !runs;
    Py_ssize_t count = 0, first = 0, last = -STEP - 1, dots[2] = {-DOTTED - 1, -DOTTED - 1}; /* the two dots before, each between digits */
    for (Py_ssize_t at = 0; !failed && at < length; at++) {
        Py_UCS4 code = codes[at];
        if (code == ':' && !ipv6)
            ipv6 = may_be_ipv6(codes, at);
        else if (code >= 128)
            wide |= code - 0xFF10 <= 9 || code == 0xFF20;
        if (!is_decimal(code))
            continue;
        if (at - last == 2 && codes[at - 1] == '.') {
            ipv4 |= at - 1 - dots[0] <= DOTTED;
            dots[0] = dots[1];
            dots[1] = at - 1;
        }
        if (at - last > STEP) {
            failed = add_run(runs, count, first, last);
            count = 0;
            first = at;
        }
        count++;
        last = at;
    }
    if (!failed)
        failed = add_run(runs, count, first, last);
    PyMem_Free(codes);
    PyObject *found = failed ? NULL : Py_BuildValue("OOOO", wide ? Py_True : Py_False, ipv4 ? Py_True : Py_False, ipv6 ? Py_True : Py_False, runs);
    Py_XDECREF(runs);
    return found;
}
