/* Resizing the planes of an image and making RGB of them: arithmetic alone, nothing of JPEG. */
#ifndef HVD_IMAGENET_PLANES_H
#define HVD_IMAGENET_PLANES_H

#include <stddef.h>
#include <stdint.h>

enum { MOST_PLANES = 3 };

/* Memory that is kept from one image to the next, so that no image pays for fresh pages. */
typedef struct {
    void *memory;
    size_t bytes;
} buffer;

/* At least so many bytes, contents undefined; NULL if there is no memory. */
void *reserve(buffer *b, size_t bytes);

/* Lets go what is larger than `bytes`. */
void trim(buffer *b, size_t bytes);

/* 8-bit samples, and the box of them, in fractions of a sample, that is to fill the square. */
typedef struct {
    const uint8_t *samples;
    size_t stride;
    int width, height;
    double left, top, right, bottom;
} plane;

typedef struct {
    buffer filters, sums, rows, levels, pixels;
} resizer;

enum { RESIZED = 0, RESIZE_NO_MEMORY = 1, RESIZE_TOO_MUCH = 3 };

/* Y, Cb and Cr (or Y alone), each of its own size, to RGB pixels (size, size, 3), mirrored if `flip`.
 * The filter is bilinear, its support grows with the reduction, and it sees nothing outside of a plane. The same bytes
 * on every processor. RESIZE_TOO_MUCH: a reduction by more than 30. */
int resize_to_rgb(resizer *r, const plane *planes, int count, int size, int flip, uint8_t *rgb);

#endif
