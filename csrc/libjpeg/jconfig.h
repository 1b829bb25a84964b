/* The interface that wheels of Pillow have: libjpeg 6.2, 8 bits a sample. Checked when the library is opened. */
#define JPEG_LIB_VERSION 62
#define BITS_IN_JSAMPLE 8
#define MEM_SRCDST_SUPPORTED 1
