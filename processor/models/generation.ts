/** How the ids of one caption are chosen. */
export interface GenerationSettings {
  /** Maximum ids behind the prompt, the end id included. */
  maxTokens: number
  /** 0 is greedy. */
  temperature: number
  topP: number
  topK?: number
  seed?: number
  /** 1 is none. */
  repetitionPenalty: number
  /** Length of the n-grams that do not occur twice; 0 is none. */
  noRepeatNgram: number
  frequencyPenalty?: number
  presencePenalty?: number
  minTokens?: number
  beams?: number
}

/** Greedy, without penalties. */
export const greedy = (maxTokens: number): GenerationSettings => ({
  maxTokens,
  temperature: 0,
  topP: 1,
  repetitionPenalty: 1,
  noRepeatNgram: 0,
})
