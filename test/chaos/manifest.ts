import type { Random } from '../../infra/starter-model/random.ts'
import type { ChaosPicture } from './scenery.ts'

/** What a line of a manifest has to become: a caption, or an error. */
export type ExpectedLine = { customId: string | null } & ({ caption: string } | { code: string })

export interface Manifest {
  text: string
  /** In the order of the lines. */
  lines: ExpectedLine[]
}

export interface ManifestOptions {
  random: Random
  lines: number
  endpoint: '/v1/captions' | '/v1/chat/completions'
  pictures: readonly ChaosPicture[]
  /** Addresses without a picture, and of a text. */
  missing: string
  text: string
}

const badShare = 0.08
const sources = ['data', 'http', 's3'] as const

/** Writes a manifest whose lines take their images from everywhere, with some bad ones between them. */
export function writeManifest(options: ManifestOptions): Manifest {
  const { random, endpoint, pictures } = options
  const requestOf = (custom_id: string, url: string) =>
    endpoint === '/v1/captions'
      ? { custom_id, image_url: url }
      : { custom_id, method: 'POST', url: endpoint, body: { messages: [userMessage(url)] } }
  const written = Array.from({ length: options.lines }, (_, i): { text: string; line: ExpectedLine } => {
    const customId = `line-${i}`
    const picture = pick(random, pictures)
    const url = picture[pick(random, sources)]
    if (i > 0 && random() < badShare) {
      const bad = [
        { text: '{"custom_id": "torn", ', line: { customId: null, code: 'invalid_json_line' } },
        {
          text: JSON.stringify(requestOf('line-0', url)),
          line: { customId: 'line-0', code: 'duplicate_custom_id' },
        },
        {
          text: JSON.stringify(requestOf(customId, options.missing)),
          line: { customId, code: 'image_not_found' },
        },
        {
          text: JSON.stringify(requestOf(customId, options.text)),
          line: { customId, code: 'image_invalid' },
        },
      ]
      return pick(random, bad)
    }
    return {
      text: JSON.stringify(requestOf(customId, url)),
      line: { customId, caption: picture.expected ?? picture.truth },
    }
  })
  return {
    text: `${written.map(({ text }) => text).join('\n')}\n`,
    lines: written.map(({ line }) => line),
  }
}

const userMessage = (url: string) => ({ role: 'user', content: [{ type: 'image_url', image_url: { url } }] })

const pick = <T>(random: Random, choices: readonly T[]): T => choices[Math.floor(random() * choices.length)]!
