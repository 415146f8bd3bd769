import type { PictureShape } from './pictures.ts'

/** What a caller asks of a model. */
export interface PromptRequest {
  system?: string
  text: string
  /** The answer's first words. */
  beginning?: string
  /** In the order of the message. */
  pictures: readonly PictureShape[]
  /** Name of a task that the model was trained on. */
  task?: string
}

/** A prompt as a model reads it. */
export interface EncodedPrompt {
  /** Image places included. */
  ids: number[]
  /** Indexes of the ids that are rows of image features, in order. */
  places: number[]
  /** Three coordinates of each id's position, `[3][ids.length]`, for models that have them. Default: 0, 1, ... */
  positions?: number[][]
  /** Index of the first id that is part of the answer, as its beginning is. Default: behind the prompt. */
  answer?: number
}

/** A prompt that a model cannot take. */
export class PromptError extends Error {
  override readonly name = 'PromptError'
  readonly retriable = false
  readonly code: 'prompt_too_long' | 'too_many_images' | 'task_unknown'

  constructor(code: PromptError['code'], message: string) {
    super(message)
    this.code = code
  }
}
