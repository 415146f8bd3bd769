/** Every object key of the store, named once. */
export const keys = {
  /** The result of one interactive request, or the mark that it is queued. */
  caption: (tenant: string, id: string) => `captions/${tenant}/${id}.json`,
  /** The bytes of an image that is too large to travel inside a record. */
  captionImage: (tenant: string, id: string) => `captions/${tenant}/${id}.image`,
} as const
