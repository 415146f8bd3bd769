/**
 * How base64 of an image begins, in either alphabet: JPEG, PNG, GIF, WebP, TIFF, BMP, what has an `ftyp` box (AVIF, HEIC),
 * JPEG XL. No address and no path begins like that and goes on without a dot.
 */
const base64Image =
  /^(?:[/_]9j[/_]|iVBORw0KGgo|R0lGOD[dl]h|UklGR|SUkqA|SUkrA|TU0AK|TU0AKw|Qk[0-3]|AAAA[\w+/-]GZ0eXB|AAAADEpYTCA)[\w+/-]{30}/

/** Whether a text is the base64 of an image: it is looked at only as far as that takes. */
export const beginsAsImage = (text: string) => base64Image.test(text)

/**
 * The address of an image as clients write it: white space around it is left out, and base64 without `data:` becomes a
 * `data:` URL where it cannot be anything else.
 * @example imageAddress('/9j/4AAQSkZJRgABAQAAAQABAAD...') // 'data:;base64,/9j/4AAQSkZJRgABAQAAAQABAAD...'
 */
export function imageAddress(text: string): string {
  const trimmed = text.trim()
  if (beginsAsImage(trimmed)) return `data:;base64,${trimmed}`
  // A path may begin or end with a space.
  return /^[a-z][a-z0-9+.-]*:/i.test(trimmed) ? trimmed : text
}
