import { readSync, writeFileSync, writeSync } from 'node:fs'
import { flushCompileCache } from 'node:module'
import { ImageError } from '../../edge/contract/errors.ts'
import { preprocess } from '../engine/preprocess.ts'
import { type PictureRule, type PictureShape, pictureBytes } from '../models/pictures.ts'
import type { DecoderSettings } from './decoder.ts'
import { type DecodeRequest, decodeRequest, encodeReply, type ReplyKind, requestBytes } from './protocol.ts'

/**
 * Process that decodes one image after another from its standard input, so that a decoder can be killed. It ends when its
 * parent does: at the end of its input, and while it decodes, when it has another parent.
 */

// The global `process`: importing the module opens standard input, which then no longer blocks.
const requests = 0
const replies = 1
/** Time between two looks at what an image takes, ms. Most images are done before the first. */
const watchMs = 20
const parent = process.ppid

// A terminal or a supervisor signals all of its processes; the parent decides what ends.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {})

preferToBeKilled()
const { preprocess: options } = JSON.parse(process.argv[2]!) as DecoderSettings
const head = Buffer.alloc(requestBytes)
/** Used again by image after image. */
let input = Buffer.alloc(512 * 1024)
let output = Buffer.alloc(0)
/** What images become. */
let rule: PictureRule
reply('ready')
// For those that start from now on; one that is killed would leave nothing.
flushCompileCache()
while (read(head)) await decode(decodeRequest(head))

async function decode({ imageBytes, memoryBytes, cpuMs, ruleBytes }: DecodeRequest): Promise<void> {
  if (ruleBytes > 0) {
    const text = Buffer.alloc(ruleBytes)
    if (!read(text)) return
    rule = JSON.parse(text.toString())
  }
  if (input.length < imageBytes) input = Buffer.allocUnsafeSlow(imageBytes)
  const bytes = input.subarray(0, imageBytes)
  if (!read(bytes)) return
  const allowed = process.memoryUsage.rss() + memoryBytes
  const startedAt = cpuTimeMs()
  const watch = setInterval(() => {
    if (process.ppid !== parent) end()
    if (process.memoryUsage.rss() > allowed) end('memory')
    if (cpuTimeMs() - startedAt > cpuMs) end('time')
  }, watchMs)
  try {
    let pixels = output
    const target = (shape: PictureShape) => {
      const size = pictureBytes(rule, shape)
      if (output.length < size) output = Buffer.allocUnsafeSlow(size)
      pixels = output.subarray(0, size)
      return pixels
    }
    const { warnings, ...size } = await preprocess(bytes, rule, target, options)
    reply(warnings.includes('truncated') ? 'truncated' : 'pixels', pixels, {
      ...size,
      cpuMicros: Math.round(1000 * (cpuTimeMs() - startedAt)),
    })
  } catch (error) {
    reply('refused', Buffer.from(JSON.stringify(refusal(error))))
  } finally {
    clearInterval(watch)
  }
}

/** Ends at once: `process.exit` waits for a decode that is running. */
function end(reason?: 'memory' | 'time'): void {
  if (reason) reply(reason)
  process.kill(process.pid, 'SIGKILL')
}

function cpuTimeMs(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}

function refusal(error: unknown) {
  if (!(error instanceof ImageError)) return { message: String(error) }
  const { code, status, message, param, cause } = error
  return { code, status, message, param, cause: cause === undefined ? undefined : String(cause) }
}

/** Fills the buffer. @returns false at the end of the input */
function read(into: Buffer): boolean {
  for (let at = 0; at < into.length; ) {
    const count = readSync(requests, into, at, into.length - at, null)
    if (count === 0) return false
    at += count
  }
  return true
}

function reply(
  kind: ReplyKind,
  body: Buffer = Buffer.alloc(0),
  { width, height, cpuMicros } = { width: 0, height: 0, cpuMicros: 0 },
): void {
  const rssBytes = process.memoryUsage.rss()
  const bytes = [encodeReply({ kind, bodyBytes: body.length, rssBytes, width, height, cpuMicros }), body]
  for (const part of bytes) for (let at = 0; at < part.length; ) at += writeSync(replies, part, at)
}

/** Where memory runs out, Linux ends a decoder before the service. */
function preferToBeKilled(): void {
  try {
    writeFileSync('/proc/self/oom_score_adj', '1000')
  } catch {
    // Another system, or one that forbids it.
  }
}
