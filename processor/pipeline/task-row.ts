import { randomInt } from 'node:crypto'
import { invalid } from '../../edge/contract/errors.ts'
import type { RunPicture, RunRow } from '../engine/batch.ts'
import type { GenerationSettings } from '../models/generation.ts'
import type { CaptionModel } from '../models/model.ts'
import { PromptError } from '../models/prompts.ts'
import type { CaptionTask } from './captioner.ts'

type RowModel = Pick<CaptionModel, 'encode' | 'generation' | 'maxPictures'>

/** Seeds that are drawn for callers who give none. */
const seeds = 2 ** 31

/**
 * What a device runs for a task.
 * @throws TurbineError of the prompt: `prompt_too_long`, `too_many_images`, `task_unknown`
 */
export function taskRow(model: RowModel, task: CaptionTask, pictures: readonly RunPicture[]): RunRow {
  const { prompt = '', request = {} } = task
  const shapes = pictures.map(({ shape }) => shape)
  try {
    return {
      pictures,
      prompt: model.encode({ beginning: prompt, text: '', ...request, pictures: shapes }),
      settings: settingsOf(model.generation, task),
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

/** The model's settings with the task's; one that samples without a seed gets one. */
function settingsOf(
  defaults: GenerationSettings,
  { settings = {}, maxTokens = defaults.maxTokens }: Pick<CaptionTask, 'settings' | 'maxTokens'>,
): GenerationSettings {
  const merged = { ...defaults, ...settings, maxTokens: Math.min(maxTokens, defaults.maxTokens) }
  return merged.temperature > 0 && merged.seed === undefined ? { ...merged, seed: randomInt(seeds) } : merged
}
