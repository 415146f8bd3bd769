import { randomFillSync } from 'node:crypto'

const megabyte = 2 ** 20
/** As large as a body may be. */
const bytes = 20 * megabyte - 1024

/** `part`, as often as it fits into a body. */
const repeated = (part: string) => part.repeat(Math.floor(bytes / Buffer.byteLength(part)))

const base64 = () => randomFillSync(Buffer.alloc((bytes / 4) * 3 - 4096)).toString('base64')

const image = (url: string) => JSON.stringify({ image_url: url })
const chat = (content: string) => `{"messages":[{"role":"user","content":${content}}]}`
const chatImage = (url: string) => chat(`[{"type":"image_url","image_url":{"url":${JSON.stringify(url)}}}]`)

/** JSON bodies of 20 MB that would take seconds, or gigabytes, if all of them were read. */
export const hostileBodies: Record<string, () => string> = {
  numbers: () => `{"messages":[${repeated('0,')}0]}`,
  objects: () => `{"messages":[${repeated('{},')}0]}`,
  messages: () => `{"messages":[${repeated('{"role":"x","content":5},')}0]}`,
  parts: () => chat(`[${repeated('{"type":"text"},')}0]`),
  'parts within the limits': () => chat(`[${'{"type":"text"},'.repeat(3000)}0]`),
  'messages within the limits': () => `{"messages":[${'0,'.repeat(9000)}0]}`,
  'lists in lists': () => repeated('['),
  'objects in objects': () => repeated('{"messages":'),
  'keys of objects': () => `{${Array.from({ length: megabyte }, (_, index) => `"key${index}":0`).join(',')}}`,
  'the same key': () => `{${repeated('"model":0,')}"model":0}`,
  'a string': () => chat(`"${repeated('x')}"`),
  'a key': () => `{"${repeated('x')}":0}`,
  'a string without an end': () => `{"model":"${repeated('x')}`,
  'escaped characters': () => chat(`"${repeated('\\u0000')}"`),
  'escaped quotes': () => chat(`"${repeated('\\"')}"`),
  backslashes: () => chat(`"${repeated('\\\\')}"`),
  'a number': () => `{"n":${repeated('9')}}`,
  'white space': () => `{"n":${repeated(' ')}1}`,
  'letters of three bytes': () => chat(`"${repeated('漢')}"`),
  'bytes that are not UTF-8': () => repeated('\ud800'),
  'an image': () => image(`data:image/png;base64,${base64()}`),
  'an image in a chat': () => chatImage(`data:image/png;base64,${base64()}`),
  'escaped slashes in base64': () =>
    image(`data:image/png;base64,${repeated('A\\/').slice(0, -8)}`).replaceAll('\\\\', '\\'),
  "base64's alphabet for URLs": () => chatImage(`data:image/png;base64,${repeated('-_')}`),
  'no base64': () => image(`data:image/png;base64,${repeated('!')}`),
  'base64 with spaces': () => image(`data:image/png;base64,${repeated('A ')}`),
  'percent signs': () => image(`data:image/png,${repeated('%2B')}`),
  'percent signs in base64': () => chatImage(`data:image/png;base64,${repeated('%2B')}`),
  'parameters of a media type': () => image(`data:${repeated(';')},AAAA`),
  'an address': () => image(`https://example.com/${repeated('a/')}`),
  'an address of S3': () => image(`s3://bucket/${repeated('a/')}`),
  'a scheme': () => image(repeated('a')),
}
