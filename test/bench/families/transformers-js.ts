import { basename, dirname } from 'node:path'
import { AutoModelForImageTextToText, AutoModelForVision2Seq, env, Tensor } from '@huggingface/transformers'
import type { EncodedPrompt } from '../../../processor/models/prompts.ts'

interface Given {
  /** As the vision file takes them, of one picture. */
  pictures: Record<string, { type: string; data: unknown; dims: readonly number[] }>
  prompt: EncodedPrompt
  /** First ids of an encoder-decoder that reads no text. */
  startIds: number[]
  maxTokens: number
}

export interface TransformersJs {
  /** Captions one picture; the ids behind its prompt. */
  caption(given: Given): Promise<number[]>
  close(): Promise<void>
}

const int64 = (ids: number[]) => new Tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length])

/** The model of a folder as the package runs it, float32, on as many threads. */
export async function openTransformersJs(
  folder: string,
  family: string,
  threads: number,
): Promise<TransformersJs> {
  env.allowRemoteModels = false
  env.useFSCache = false
  env.localModelPath = dirname(folder)
  const Model = family === 'vision-encoder-decoder' ? AutoModelForVision2Seq : AutoModelForImageTextToText
  const model = await Model.from_pretrained(basename(folder), {
    dtype: 'fp32',
    session_options: { intraOpNumThreads: threads, interOpNumThreads: 1 },
  })
  return {
    async caption({ pictures, prompt, startIds, maxTokens }) {
      const images = Object.fromEntries(
        Object.entries(pictures).map(([name, { type, data, dims }]) => [
          imageName(name),
          new Tensor(type as 'float32', data as Float32Array, [...dims]),
        ]),
      )
      const text = textOf(family, prompt, startIds)
      const options = { do_sample: false, max_new_tokens: maxTokens, num_beams: 1, no_repeat_ngram_size: 0 }
      const output = (await model.generate({
        ...images,
        ...text.feeds,
        ...options,
        forced_eos_token_id: null,
      } as never)) as Tensor
      return output.tolist()[0].slice(text.before).map(Number)
    },
    async close() {
      await model.dispose()
    },
  }
}

const imageName = (name: string) => (name === 'grid_thw' ? 'image_grid_thw' : name)

/** The prompt as the package takes it, and the ids before the answer. */
function textOf(family: string, { ids, places }: EncodedPrompt, startIds: number[]) {
  if (family === 'vision-encoder-decoder')
    return { feeds: { decoder_input_ids: int64(startIds) }, before: startIds.length }
  // Florence-2's features are put before the text, and its answers begin with one start id.
  const isFlorence = family === 'florence2'
  const given = isFlorence ? ids.filter((_, at) => !places.includes(at)) : ids
  return {
    feeds: { input_ids: int64(given), attention_mask: int64(given.map(() => 1)) },
    before: isFlorence ? 1 : given.length,
  }
}
