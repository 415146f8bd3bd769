import { fitAsk } from '../../edge/contract/ask.ts'
import type { CaptionText } from '../../edge/contract/caption.ts'
import { TurbineError } from '../../edge/contract/errors.ts'
import { generationNames, generationParameters } from '../../edge/contract/generation.ts'
import type { Capabilities } from '../../edge/contract/model.ts'
import { ConfigError } from '../../infra/config.ts'
import type { CaptionModel } from '../models/model.ts'
import { seenPixels } from '../models/pictures.ts'

type Described = Pick<
  CaptionModel,
  'family' | 'follows' | 'tasks' | 'textTasks' | 'maxPictures' | 'honours' | 'runner' | 'picture'
>

/** What a model can, of what requests may ask. Several captions differ where words are sampled. */
export function capabilitiesOf(model: Described): Capabilities {
  const { family, follows, tasks, textTasks, maxPictures, honours, runner, picture } = model
  const maxPixels = seenPixels(picture)
  const parameters = generationNames.filter((name) => {
    const { setting } = generationParameters[name]
    return honours.includes(setting === 'n' ? 'temperature' : setting)
  })
  return {
    ...{ family, follows_text: follows, max_images: maxPictures, parameters },
    ...(tasks && { tasks: [...tasks, ...(textTasks ?? [])] }),
    ...(textTasks && { text_tasks: [...textTasks] }),
    ...(maxPixels !== undefined && { max_pixels: maxPixels }),
    output: runner.kind === 'tagger' ? 'tags' : 'caption',
  }
}

/**
 * What a model is asked by requests that ask nothing.
 * @throws ConfigError for a `TURBINE_PROMPT` that it cannot follow
 */
export function askedByDefault(
  { id, can }: { id: string; can: Capabilities },
  prompt: string | undefined,
): CaptionText | undefined {
  if (prompt === undefined) return undefined
  const refuse = (why: string) => new ConfigError(`TURBINE_PROMPT: ${why}`)
  try {
    const { request, warnings } = fitAsk({ prompt, imageUrls: [''], generation: {} }, { id, can })
    const tasks = can.tasks ? ` Its tasks: ${can.tasks.join(', ')}.` : ''
    if (warnings) throw refuse(`the model "${id}" does not follow it.${tasks}`)
    return request
  } catch (error) {
    throw error instanceof TurbineError ? refuse(error.message) : error
  }
}
