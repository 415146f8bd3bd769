import { Writable } from 'node:stream'
import { type CaptionFlags, runCaption } from '../../processor/cli/caption/command.ts'
import type { Captioner } from '../../processor/pipeline/captioner.ts'

/** The command as it is, with a device that answers at once: `node formats-process.ts <inputs as JSON> <flags as JSON>`. */
const [inputs, flags] = process.argv.slice(2).map((text) => JSON.parse(text)) as [string[], CaptionFlags]

const captioner: Captioner = {
  model: 'at-once',
  concurrency: 64,
  caption: async ({ image }) => ({
    caption: `a picture of ${image.length} bytes, with a sentence about it as long as those of models are`,
    finish_reason: 'stop',
    turbine: {
      prune_level: 0,
      prune_ratio: 0,
      tokens_in: 197,
      tokens_out: 197,
      output_tokens: 18,
      queue_ms: 0.1,
      inference_ms: 0.1,
      model: 'at-once',
    },
  }),
  close: async () => {},
}

const nothing = new Writable({ write: (_chunk, _encoding, done) => done() })
const start = performance.now()
await runCaption(inputs, flags, {
  openCaptioner: async () => captioner,
  readImage: async () => new Uint8Array(),
  stdin: ReadableStream.from<Uint8Array>([]),
  stdout: nothing,
  stderr: nothing,
  signals: process,
})
const { maxRSS } = process.resourceUsage()
console.log(JSON.stringify({ seconds: (performance.now() - start) / 1000, peak_rss_mb: maxRSS / 1024 }))
