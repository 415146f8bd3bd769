import { z } from '@hono/zod-openapi'

/** A served model in OpenAI's shape, with what Turbo can do to it. `created` is in unix seconds. */
export const modelSchema = z
  .object({
    id: z.string(),
    object: z.literal('model'),
    created: z.int(),
    owned_by: z.string(),
    turbine: z.object({
      image_size: z.int().openapi({ description: "Side of the encoder's square input, pixels." }),
      device: z.string().openapi({ description: 'Where it runs, e.g. `cpu` or `cuda:0`.' }),
      tokens_in: z.int().openapi({ description: 'Tokens that enter the encoder, CLS included.' }),
      prune_levels: z
        .array(
          z.object({
            level: z.int(),
            prune_ratio: z.number().openapi({ description: 'Share of the image tokens merged away.' }),
            tokens_out: z.int().openapi({ description: 'Tokens that leave the encoder, CLS included.' }),
          }),
        )
        .openapi({ description: 'Ascending in tokens merged; level 0 is the unpruned model.' }),
    }),
  })
  .openapi('Model')

export type ModelSummary = z.infer<typeof modelSchema>

export const modelListSchema = z
  .object({ object: z.literal('list'), data: z.array(modelSchema) })
  .openapi('ModelList')

/** What the processors of a fleet tell the edges about a model they serve; refreshed while any of them runs. */
export interface ServedModel {
  model: ModelSummary
  /** Images per second that a processor serves unpruned. */
  throughput: number
  /** Unix ms. */
  seenAt: number
}

/** How often a processor says that it serves a model, ms. */
export const announceModelMs = 20_000
/** A model that nobody has spoken of for so long is still listed, since jobs for it wait safely in the stream. */
export const forgetModelMs = 24 * 3_600_000
