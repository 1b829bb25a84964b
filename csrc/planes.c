/* See planes.h. Whatever is summed here is a whole number or was made one, so that neither the order of a sum nor fused
 * multiplication changes a bit. */
#include "planes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "pixels are put together as little-endian words"
#endif

/* Compiled twice, for AVX2 and for any x86; which one runs is found out when the library is loaded. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__gnu_linux__) && !defined(NO_CLONES)
#define CLONES __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define CLONES
#endif

void *reserve(buffer *b, size_t bytes) {
    if (bytes > b->bytes) {
        free(b->memory);
        b->memory = malloc(bytes);
        b->bytes = b->memory ? bytes : 0;
    }
    return b->memory;
}

void trim(buffer *b, size_t bytes) {
    if (b->bytes <= bytes) return;
    free(b->memory);
    b->memory = NULL;
    b->bytes = 0;
}

/* Weights are multiples of 1/2^14 and samples between the two passes of 1/4, so that every product and sum of floats is
 * a whole number below 2^24: exact. */
#define WEIGHT_ONE 16384.0f
enum { MOST_TAPS = 62 };

/* The triangle filter of one axis. */
typedef struct {
    int taps;      /* even, the same for every output pixel; weights beyond the last are 0 */
    int *first;    /* of the samples below the filter, per output pixel */
    float *weight; /* (size, taps), in units of 1 / WEIGHT_ONE */
} filter;

static double reach(double low, double high, int size) { return fmax((high - low) / size, 1); }

/* The samples that the filter covers at most, made even. */
static int taps_of(double low, double high, int size) { return ((int)ceil(2 * reach(low, high, size)) + 1) & ~1; }

/* The weights, at most `taps`, of the samples around `centre`, of `length` samples; returns the first one's number. */
static int fill_weights(float *weight, int taps, double centre, double spread, int length) {
    int first = (int)fmax(centre - spread + 0.5, 0), last = (int)fmin(centre + spread + 0.5, length);
    double sum = 0, steepness = 1 / spread;
    if (first >= length) first = length - 1;
    if (last <= first) last = first + 1;
    if (last > first + taps) last = first + taps; /* a rounding error's: its weight is next to nothing */
    for (int k = 0; k < last - first; k++) {
        weight[k] = (float)fmax(1 - fabs(first + k + 0.5 - centre) * steepness, 0);
        sum += weight[k];
    }
    if (sum <= 0) weight[0] = (float)(sum = 1);
    double unit = WEIGHT_ONE / sum;
    for (int k = 0; k < last - first; k++) weight[k] = (float)(int)(weight[k] * unit + 0.5);
    for (int k = last - first; k < taps; k++) weight[k] = 0;
    return first;
}

/* `f` has its arrays already, of size numbers and (size, taps) weights; mirrored, it fills the square from its end. */
static void fill_filter(filter *f, double low, double high, int size, int length, int mirror) {
    double scale = (high - low) / size, spread = reach(low, high, size);
    for (int i = 0; i < size; i++) {
        int to = mirror ? size - 1 - i : i;
        float *weight = f->weight + (size_t)to * f->taps;
        f->first[to] = fill_weights(weight, f->taps, low + (i + 0.5) * scale, spread, length);
    }
}

/* Of all planes; Cb and Cr are alike but in name. */
static void fill_filters(filter *across, filter *down, const plane *planes, int count, int size, int flip) {
    for (int c = 0; c < count; c++) {
        const plane *p = planes + c, *before = p - 1;
        if (c > 0 && p->width == before->width && p->height == before->height && p->left == before->left &&
            p->right == before->right && p->top == before->top && p->bottom == before->bottom) {
            across[c] = across[c - 1];
            down[c] = down[c - 1];
            continue;
        }
        fill_filter(across + c, p->left, p->right, size, p->width, flip);
        fill_filter(down + c, p->top, p->bottom, size, p->height, 0);
    }
}

/* The high half of a 16 x 16 bit product: samples and sums have 8 bits behind the point, weights 16. */
#define TERM(weight, sample) ((uint16_t)(((uint32_t)(uint16_t)((sample) << 8) * (uint32_t)(uint16_t)(weight)) >> 16))

/* out[i] = 256 x the sum over rows of weight x row[i], i over n samples; two to four rows at once, then row by row. */
CLONES static void blend_rows(uint16_t *restrict out, const uint8_t *rows, size_t stride, const uint16_t *weight,
                              int taps, int n) {
    const uint8_t *restrict a = rows, *restrict b = rows + stride;
    uint16_t u = weight[0], v = weight[1];
    if (taps < 3) {
        for (int i = 0; i < n; i++) out[i] = TERM(u, a[i]) + TERM(v, b[i]);
    } else if (taps < 4) {
        const uint8_t *restrict c = b + stride;
        uint16_t w = weight[2];
        for (int i = 0; i < n; i++) out[i] = TERM(u, a[i]) + TERM(v, b[i]) + TERM(w, c[i]);
    } else {
        const uint8_t *restrict c = b + stride, *restrict d = c + stride;
        uint16_t w = weight[2], x = weight[3];
        for (int i = 0; i < n; i++) out[i] = TERM(u, a[i]) + TERM(v, b[i]) + TERM(w, c[i]) + TERM(x, d[i]);
    }
    for (int k = 4; k < taps; k++) {
        const uint8_t *restrict p = rows + k * stride;
        u = weight[k];
        for (int i = 0; i < n; i++) out[i] += TERM(u, p[i]);
    }
}

enum { LANES = 8 }; /* output rows that are made together, one in each lane of a vector */
typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t whole __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

typedef uint16_t words __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

/* The lower or the upper halves of two vectors, word by word in turn. */
#ifdef __clang__
#define ZIP_LOW(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#else
#define ZIP_LOW(a, b) __builtin_shuffle(a, b, (words){0, 8, 1, 9, 2, 10, 3, 11})
#define ZIP_HIGH(a, b) __builtin_shuffle(a, b, (words){4, 12, 5, 13, 6, 14, 7, 15})
#endif

/* out[x][lane] from the blended rows of all lanes, from units of 1/256 to 1/4. Up to 7 x more than n are made. */
CLONES static void interleave(float *restrict out, const uint16_t *restrict in, size_t stride, int n) {
    for (int x = 0; x < n; x += LANES) {
        words rows[LANES], zipped[LANES];
        for (int j = 0; j < LANES; j++) rows[j] = (*(const words *)(in + j * stride + x) + 32) >> 6;
        /* Three times zipped, rows are columns. */
        for (int times = 0; times < 3; times++) {
            for (int j = 0; j < LANES / 2; j++) {
                zipped[2 * j] = ZIP_LOW(rows[j], rows[j + LANES / 2]);
                zipped[2 * j + 1] = ZIP_HIGH(rows[j], rows[j + LANES / 2]);
            }
            memcpy(rows, zipped, sizeof rows);
        }
        for (int j = 0; j < LANES; j++) *(lanes *)(out + (x + j) * LANES) = __builtin_convertvector(__builtin_convertvector(rows[j], whole), lanes);
    }
}

/* out[x][lane] in units of 1/16. */
CLONES static void blend_columns(int32_t *restrict out, const float *restrict row, const filter *f, int size) {
    const float unit = 4 / WEIGHT_ONE, half = WEIGHT_ONE / 8;
    for (int x = 0; x < size; x++) {
        const float *p = row + LANES * f->first[x], *w = f->weight + (size_t)x * f->taps;
        lanes even = *(const lanes *)p * w[0] + half, odd = *(const lanes *)(p + LANES) * w[1];
        for (int k = 2; k < f->taps; k += 2) {
            even += *(const lanes *)(p + LANES * k) * w[k];
            odd += *(const lanes *)(p + LANES * (k + 1)) * w[k + 1];
        }
        *(whole *)(out + x * LANES) = __builtin_convertvector((even + odd) * unit, whole);
    }
}

/* YCbCr (JFIF) in units of 1/16 to pixels R | G << 8 | B << 16. */
CLONES static void to_rgb(uint32_t *restrict out, const int32_t *restrict y, const int32_t *restrict cb,
                          const int32_t *restrict cr, int n) {
    for (int i = 0; i < n; i++) {
        int l = (y[i] << 15) + (1 << 18), u = cb[i] - 2048, v = cr[i] - 2048; /* l: 19 bits behind the point */
        int r = (l + 45941 * v) >> 19, g = (l - 11277 * u - 23401 * v) >> 19, b = (l + 58065 * u) >> 19;
        r = r < 0 ? 0 : r > 255 ? 255 : r;
        g = g < 0 ? 0 : g > 255 ? 255 : g;
        b = b < 0 ? 0 : b > 255 ? 255 : b;
        out[i] = (uint32_t)r | (uint32_t)g << 8 | (uint32_t)b << 16;
    }
}

/* One line of the square, from the whole-number weights of its rows. */
static void blend_line(const plane *p, const filter *f, int line, uint16_t *out) {
    uint16_t weight[MOST_TAPS];
    const float *w = f->weight + (size_t)line * f->taps;
    int taps = f->taps;
    while (taps > 1 && w[taps - 1] == 0) taps--;
    for (int k = 0; k < taps; k++) weight[k] = (uint16_t)fminf(65535, w[k] * (65536 / WEIGHT_ONE));
    if (taps == 1) weight[1] = 0;
    blend_rows(out, p->samples + f->first[line] * p->stride, taps == 1 ? 0 : p->stride, weight, taps, p->width);
}

/* LANES lines of one plane, from line y on, to levels (size, LANES). */
static void resize_lines(const plane *p, const filter *across, const filter *down, int y, int size, resizer *r,
                         int32_t *levels) {
    uint16_t *sums = r->sums.memory;
    float *row = r->rows.memory;
    for (int j = 0; j < LANES; j++) {
        int line = y + j < size ? y + j : size - 1;
        blend_line(p, down, line, sums + (size_t)j * p->width);
    }
    interleave(row, sums, p->width, p->width);
    memset(row + (size_t)p->width * LANES, 0, (size_t)across->taps * LANES * sizeof *row); /* weights of 0 read it */
    blend_columns(levels, row, across, size);
}

/* Filters of all planes, two each, in one piece of memory; also reserves the rest. */
static int prepare(resizer *r, const plane *planes, int count, int size, filter *across, filter *down) {
    size_t taps = 0, width = 0;
    for (int c = 0; c < count; c++) {
        const plane *p = planes + c;
        across[c].taps = taps_of(p->left, p->right, size);
        down[c].taps = taps_of(p->top, p->bottom, size);
        if (across[c].taps > MOST_TAPS || down[c].taps > MOST_TAPS) return RESIZE_TOO_MUCH;
        taps += across[c].taps + down[c].taps;
        if ((size_t)p->width > width) width = p->width;
    }
    float *weights = reserve(&r->filters, size * (taps * sizeof(float) + 2 * count * sizeof(int)));
    if (!weights || !reserve(&r->sums, LANES * (width + 1) * sizeof(uint16_t)) ||
        !reserve(&r->rows, LANES * (width + MOST_TAPS) * sizeof(float)) ||
        !reserve(&r->levels, (size_t)MOST_PLANES * LANES * size * sizeof(int32_t)) ||
        !reserve(&r->pixels, (size_t)LANES * size * sizeof(uint32_t)))
        return RESIZE_NO_MEMORY;
    int *firsts = (int *)(weights + size * taps);
    for (int c = 0; c < 2 * count; c++) {
        filter *f = c < count ? across + c : down + c - count;
        f->weight = weights;
        f->first = firsts;
        weights += (size_t)size * f->taps;
        firsts += size;
    }
    return RESIZED;
}

/* `lines` lines of RGB out of LANES interleaved ones. Four bytes are written at a time, and the next pixel over the
 * fourth. */
static inline void store_lines(uint8_t *rgb, const uint32_t *pixels, int lines, int size) {
    size_t line_bytes = 3 * (size_t)size;
    for (int x = 0; x < size - 1; x++)
        for (int j = 0; j < lines; j++) memcpy(rgb + j * line_bytes + 3 * x, pixels + x * LANES + j, 4);
    for (int j = 0; j < lines; j++)
        memcpy(rgb + (j + 1) * line_bytes - 3, pixels + (size_t)(size - 1) * LANES + j, 3);
}

int resize_to_rgb(resizer *r, const plane *planes, int count, int size, int flip, uint8_t *rgb) {
    filter across[MOST_PLANES], down[MOST_PLANES];
    int result = prepare(r, planes, count, size, across, down);
    if (result != RESIZED) return result;
    fill_filters(across, down, planes, count, size, flip);
    size_t cells = (size_t)size * LANES, line_bytes = 3 * (size_t)size;
    int32_t *levels = r->levels.memory;
    uint32_t *pixels = r->pixels.memory;
    for (size_t i = cells * count; i < cells * MOST_PLANES; i++) levels[i] = 2048; /* grey */
    for (int y = 0; y < size; y += LANES) {
        for (int c = 0; c < count; c++)
            resize_lines(planes + c, across + c, down + c, y, size, r, levels + c * cells);
        to_rgb(pixels, levels, levels + cells, levels + 2 * cells, (int)cells);
        if (y + LANES <= size) store_lines(rgb + y * line_bytes, pixels, LANES, size);
        else store_lines(rgb + y * line_bytes, pixels, size - y, size);
    }
    return RESIZED;
}
