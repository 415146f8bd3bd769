import type { CaptionText, Choice, CompletedCaption, RequestWarning } from '../../edge/contract/caption.ts'
import type { Generation } from '../../edge/contract/generation.ts'
import type { Captioned, Captioner, CaptionTask } from './captioner.ts'

/** What is asked of a captioner. */
export interface CaptionAsk
  extends Omit<CaptionTask, 'image' | 'images' | 'prompt' | 'request' | 'settings' | 'onText'> {
  /** Encoded, one or more. */
  images: readonly Uint8Array[]
  request?: CaptionText
  settings?: Generation
  /** Captions of the images; default: one. */
  n?: number
  /** Called with the text so far of each caption, as it grows. */
  onText?(index: number, text: string): void
  /** What is known of the request before. */
  warnings?: readonly RequestWarning[]
}

export type Answer = Captioned & Pick<CompletedCaption, 'captions'>

/**
 * Captions the images of one request: once, or for several captions each with a seed of its own.
 * @throws as `Captioner.caption`
 */
export async function ask(
  captioner: Pick<Captioner, 'caption' | 'byDefault'>,
  { n = 1, warnings = [], settings = {}, onText, ...asks }: CaptionAsk,
): Promise<Answer> {
  const asked = { ...asks, request: withDefault(asks.request, captioner.byDefault) }
  const runs = Array.from({ length: n }, (_, index) =>
    captioner.caption({
      ...taskOf(asked, seeded(settings, index)),
      ...(onText && { onText: (text: string) => onText(index, text) }),
    }),
  )
  const settled = await Promise.allSettled(runs)
  const answers = settled.map((each) => {
    if (each.status === 'rejected') throw each.reason
    return each.value
  })
  return withWarnings(joined(answers), warnings)
}

/** A request that says what to do is not told what to do by default. */
function withDefault(request: CaptionText = {}, byDefault: CaptionText = {}): CaptionText {
  const isAsked = request.text !== undefined || request.task !== undefined
  return isAsked ? request : { ...byDefault, ...request }
}

const seeded = (settings: Generation, index: number): Generation =>
  settings.seed === undefined ? settings : { ...settings, seed: nextSeed(settings.seed, index) }

/** The largest is followed by the least. */
const nextSeed = (seed: number, by: number) =>
  seed > Number.MAX_SAFE_INTEGER - by
    ? Number.MIN_SAFE_INTEGER + (by - 1 - (Number.MAX_SAFE_INTEGER - seed))
    : seed + by

/** As captioners take it that read one image and the beginning of a caption, and as those do that follow a request. */
const taskOf = (
  { images, request = {}, ...rest }: Omit<CaptionAsk, 'n' | 'warnings' | 'settings' | 'onText'>,
  settings: Generation,
): CaptionTask => {
  const { maxPixels, ...asked } = request
  return {
    ...rest,
    ...{ image: images[0]!, images, prompt: asked.beginning, request: asked, settings },
    ...(maxPixels !== undefined && { maxPixels }),
  }
}

/** The first caption, with the others beside it. */
function joined(answers: Captioned[]): Answer {
  const [first] = answers
  if (answers.length === 1) return first!
  const captions = answers.map(({ caption, finish_reason, turbine }): Choice => {
    const { finish_reason: own, output_tokens, tags } = turbine
    return {
      caption,
      finish_reason,
      turbine: { output_tokens, ...(own && { finish_reason: own }), ...(tags && { tags }) },
    }
  })
  const output_tokens = answers.reduce((sum, { turbine }) => sum + turbine.output_tokens, 0)
  return { ...first!, captions, turbine: { ...first!.turbine, output_tokens } }
}

function withWarnings(answer: Answer, warnings: readonly RequestWarning[]): Answer {
  if (warnings.length === 0) return answer
  const { turbine } = answer
  return {
    ...answer,
    turbine: { ...turbine, warnings: [...new Set([...(turbine.warnings ?? []), ...warnings])] },
  }
}
