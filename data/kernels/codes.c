/* Code points of texts, which come as str or as the UTF-8 that Arrow has in memory, and their way back. */
#include "text.h"


/* Room for some code points and the zeros behind them; NULL with MemoryError set. */
static Py_UCS4 *new_codes(Py_ssize_t length)
{
    Py_UCS4 *codes = length > PY_SSIZE_T_MAX / 4 - BLOCK ? NULL : PyMem_Malloc((size_t)(length + BLOCK) * sizeof *codes);
    if (!codes)
        PyErr_NoMemory();
    return codes;
}

/* BLOCK bytes as code points; how many of them, from the first on, are ASCII. */
static inline int widen(const uint8_t *restrict bytes, Py_UCS4 *restrict codes)
{
    uint8_t others[BLOCK];
    for (int i = 0; i < BLOCK; i++) {
        others[i] = bytes[i] >> 7;
        codes[i] = bytes[i];
    }
    uint64_t bits = bits_of(others);
    return bits ? lowest(bits) : BLOCK;
}

int take_utf8(Utf8 *text, PyObject *object)
{
    if (PyUnicode_Check(object)) {
        text->encoded = PyUnicode_AsEncodedString(object, "utf-8", "surrogatepass");
        return text->encoded ? take_array(&text->bytes, text->encoded, 1, 0) : -1;
    }
    return take_array(&text->bytes, object, 1, 0);
}

void give_back_utf8(Utf8 *text)
{
    give_back(&text->bytes);
    Py_CLEAR(text->encoded);
}

/* RFC 3629, 3; surrogates are in no UTF-8 but in what a str was encoded to. */
Py_ssize_t decode_character(const Utf8 *text, Py_ssize_t at, Py_UCS4 *code)
{
    static const Py_UCS4 least[] = {UINT32_MAX, 0, 0x80, 0x800, 0x10000};
    const uint8_t *bytes = (const uint8_t *)text->bytes.items + at;
    Py_ssize_t size = bytes[0] < 0xC0 || bytes[0] > 0xF7 ? 0 : bytes[0] < 0xE0 ? 2 : bytes[0] < 0xF0 ? 3 : 4;
    Py_UCS4 found = bytes[0] & (0x7Fu >> size);
    if (size > text->bytes.count - at)
        size = 0;
    for (Py_ssize_t i = 1; i < size; i++) {
        if ((bytes[i] & 0xC0) != 0x80)
            size = 0;
        found = found << 6 | (bytes[i] & 0x3F);
    }
    if (found < least[size] || found > 0x10FFFF || (found - 0xD800 < 0x800 && !text->encoded)) {
        PyErr_Format(PyExc_ValueError, "a text is no UTF-8 from byte %zd on", at);
        return 0;
    }
    *code = found;
    return size;
}

/* The first `most` characters of a text, which there is room for; how many there are, or -1 with ValueError set. */
static Py_ssize_t decode(const Utf8 *text, Py_ssize_t most, Py_UCS4 *codes)
{
    const uint8_t *bytes = text->bytes.items;
    Py_ssize_t at = 0, count = 0, size = text->bytes.count;
    while (at < size && count < most) {
        Py_ssize_t taken = 1;
        if (bytes[at] >= 128) {
            if (!(taken = decode_character(text, at, &codes[count++])))
                return -1;
        } else if (size - at >= BLOCK) {
            count += taken = widen(bytes + at, codes + count);
        } else {
            codes[count++] = bytes[at];
        }
        at += taken;
    }
    return count < most ? count : most;
}

Py_UCS4 *take_codes(PyObject *object, Py_ssize_t most, Py_ssize_t *length)
{
    Utf8 text = {0};
    Py_UCS4 *codes = NULL;
    if (!take_utf8(&text, object)) {
        codes = new_codes(text.bytes.count < most ? text.bytes.count : most);
        if (codes && (*length = decode(&text, most, codes)) < 0) {
            PyMem_Free(codes);
            codes = NULL;
        }
    }
    give_back_utf8(&text);
    if (codes)
        memset(codes + *length, 0, BLOCK * sizeof *codes);
    return codes;
}

Py_ssize_t count_codes(PyObject *text)
{
    if (PyUnicode_Check(text))
        return PyUnicode_GET_LENGTH(text);
    Array bytes = {0};
    Py_ssize_t count = 0;
    if (!take_array(&bytes, text, 1, 0))
        for (Py_ssize_t at = 0; at < bytes.count; at++)
            count += (((const uint8_t *)bytes.items)[at] & 0xC0) != 0x80;
    give_back(&bytes);
    return count;
}

/* UTF-8 of one character. */
static inline uint8_t *encode_character(Py_UCS4 code, uint8_t *out)
{
    if (code < 0x80) {
        *out++ = (uint8_t)code;
    } else if (code < 0x800) {
        *out++ = (uint8_t)(0xC0 | code >> 6);
        *out++ = (uint8_t)(0x80 | (code & 0x3F));
    } else {
        if (code < 0x10000) {
            *out++ = (uint8_t)(0xE0 | code >> 12);
        } else {
            *out++ = (uint8_t)(0xF0 | code >> 18);
            *out++ = (uint8_t)(0x80 | (code >> 12 & 0x3F));
        }
        *out++ = (uint8_t)(0x80 | (code >> 6 & 0x3F));
        *out++ = (uint8_t)(0x80 | (code & 0x3F));
    }
    return out;
}

/* BLOCK code points as bytes; how many of them, from the first on, are ASCII. */
static inline int narrow(const Py_UCS4 *restrict codes, uint8_t *restrict bytes)
{
    uint8_t others[BLOCK];
    for (int i = 0; i < BLOCK; i++) {
        others[i] = codes[i] > 0x7F;
        bytes[i] = (uint8_t)codes[i];
    }
    uint64_t bits = bits_of(others);
    return bits ? lowest(bits) : BLOCK;
}

PyObject *utf8_of(const Py_UCS4 *codes, Py_ssize_t length)
{
    Py_ssize_t size = length, at = 0;
    for (Py_ssize_t i = 0; i < length; i++)
        size += (codes[i] >= 0x80) + (codes[i] >= 0x800) + (codes[i] >= 0x10000);
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, size);
    uint8_t *out = bytes ? (uint8_t *)PyBytes_AS_STRING(bytes) : NULL;
    while (out && at < length) {
        if (codes[at] < 0x80 && length - at >= BLOCK) {
            int taken = narrow(codes + at, out);
            out += taken;
            at += taken;
        } else {
            out = encode_character(codes[at++], out);
        }
    }
    return bytes;
}
