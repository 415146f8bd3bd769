import { randomInt } from 'node:crypto'
import { invalid } from '../../edge/contract/errors.ts'
import type { RunPicture, RunRow } from '../engine/batch.ts'
import type { GenerationSettings } from '../models/generation.ts'
import type { CaptionModel } from '../models/model.ts'
import { PromptError } from '../models/prompts.ts'
import type { CaptionTask } from './captioner.ts'

type RowModel = Pick<CaptionModel, 'encode' | 'generation' | 'maxTokens' | 'runner'>

/** What of a task its row hangs on. */
export type RowTask = Pick<CaptionTask, 'prompt' | 'request' | 'settings' | 'maxTokens' | 'onText'>

/** Seeds that are drawn for callers who give none. */
const seeds = 2 ** 31

/**
 * What a device runs for a task.
 * @throws TurbineError of the prompt: `prompt_too_long`, `too_many_images`, `task_unknown`
 */
export async function taskRow(
  model: RowModel,
  task: RowTask,
  pictures: readonly RunPicture[],
): Promise<RunRow> {
  const { prompt = '', request = {} } = task
  const shapes = pictures.map(({ shape }) => shape)
  try {
    const encoded = await model.encode({ beginning: prompt, text: '', ...request, pictures: shapes })
    // Prompt and answer of these are one sequence.
    const taken = model.runner.kind === 'vision-language' ? encoded.ids.length : 0
    return {
      pictures,
      prompt: encoded,
      settings: settingsOf(model.generation, task, { taken, most: Math.max(1, model.maxTokens - taken) }),
      ...(model.runner.kind === 'vision-language' && {
        streamed: task.onText !== undefined,
        leaves: new Int32Array(new SharedArrayBuffer(4)),
      }),
    }
  } catch (error) {
    if (error instanceof PromptError) throw invalid(error.code, error.message, 'prompt')
    throw error
  }
}

/** @throws TurbineError `too_many_images` */
export function checkImages(
  { id, maxPictures }: Pick<CaptionModel, 'id' | 'maxPictures'>,
  images: readonly unknown[],
): void {
  if (images.length >= 1 && images.length <= maxPictures) return
  throw invalid(
    'too_many_images',
    `The request has ${images.length} images; ${id} takes ${maxPictures === 1 ? 'one' : `at most ${maxPictures}`} in one request.`,
    'image',
  )
}

/**
 * The model's settings with the task's; one that samples without a seed gets one. Beams are not sampled from: a task with a
 * temperature has none but those that it asks for, and requests with both are refused before.
 */
function settingsOf(
  defaults: GenerationSettings,
  { settings = {}, maxTokens }: Pick<CaptionTask, 'settings' | 'maxTokens'>,
  { taken, most }: { taken: number; most: number },
): GenerationSettings {
  const { maxLength = Number.POSITIVE_INFINITY } = defaults
  const byDefault = Math.min(defaults.maxTokens, Math.max(1, maxLength - taken))
  const merged = { ...defaults, ...settings, maxTokens: Math.min(maxTokens ?? byDefault, most) }
  const { temperature, beams = 1, seed = randomInt(seeds) } = merged
  if (temperature === 0) return merged
  if (beams === 1) return { ...merged, seed }
  const isSampled = settings.temperature !== undefined && settings.beams === undefined
  return isSampled ? { ...merged, seed, beams: 1 } : { ...merged, temperature: 0 }
}
