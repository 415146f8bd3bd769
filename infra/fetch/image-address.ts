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

/** Form of an address, for the docs. */
export interface AddressForm {
  /** An example. */
  form: string
  /** Whether it is accepted of callers of the API and in lines of batches, and on the command line. */
  api: boolean
  commandLine: boolean
  says: string
}

/** How the address of an image can be written. */
export const addressForms: readonly AddressForm[] = [
  { form: 'https://example.com/a.jpg', api: true, commandLine: true, says: 'Fetched by the service.' },
  {
    form: 'http://example.com/a.jpg',
    api: true,
    commandLine: true,
    says: 'As `https://`, unless `TURBINE_ALLOW_HTTP_URLS` is off.',
  },
  { form: 's3://photos/a.jpg', api: true, commandLine: false, says: 'Where the tenant has a grant.' },
  {
    form: 'data:image/jpeg;base64,/9j/4AAQSkZJRg==',
    api: true,
    commandLine: true,
    says: "Of any media type or none, in capitals too, also in wrapped lines, in base64's alphabet for URLs, without padding, or with percent signs.",
  },
  {
    form: 'data:image/png,%89PNG%0D%0A%1A%0A',
    api: true,
    commandLine: true,
    says: 'Percent-encoded.',
  },
  {
    form: '/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQgK',
    api: true,
    commandLine: true,
    says: 'Base64 without a prefix, where it begins as an image does.',
  },
  {
    form: 'photos/a.jpg',
    api: false,
    commandLine: true,
    says: 'A path, relative to the manifest.',
  },
]
