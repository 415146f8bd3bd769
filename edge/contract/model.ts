import { z } from '@hono/zod-openapi'

/** Served model in OpenAI's format, with its prune levels. `created` is in unix seconds. */
export const modelSchema = z
  .object({
    id: z.string(),
    object: z.literal('model'),
    created: z.int(),
    owned_by: z.string(),
    turbine: z.object({
      image_size: z.int().openapi({ description: "Side of the encoder's square input, pixels." }),
      device: z.string().openapi({ description: 'Device that runs it, e.g. `cpu` or `cuda:0`.' }),
      tokens_in: z.int().openapi({ description: 'Tokens that enter the encoder, CLS included.' }),
      prune_levels: z
        .array(
          z.object({
            level: z.int(),
            prune_ratio: z.number().openapi({ description: 'Share of image tokens merged.' }),
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

/** Announcement of a model by the processors that serve it; refreshed while any of them runs. */
export const servedModelSchema = z.object({
  model: modelSchema,
  /** Images per second that a processor serves unpruned. */
  throughput: z.number(),
  /** Unix ms. */
  seenAt: z.number(),
})
export type ServedModel = z.infer<typeof servedModelSchema>

/** Interval of the announcements of a model, ms. */
export const announceModelMs = 20_000
/** A model is listed this long after its last announcement, ms: its jobs wait safely in the stream. */
export const forgetModelMs = 24 * 3_600_000
