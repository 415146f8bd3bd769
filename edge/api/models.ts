import { type OpenAPIHono, z } from '@hono/zod-openapi'
import { modelIdSchema } from '../contract/caption.ts'
import { notFound, retryLater } from '../contract/errors.ts'
import { type ModelSummary, modelListSchema, modelSchema } from '../contract/model.ts'
import type { EdgeDeps, EdgeEnv } from '../deps.ts'
import { documented, jsonResponse, modelNotFound, operation, serviceErrors } from './responses.ts'

const example: ModelSummary = {
  id: 'starter',
  object: 'model',
  created: 1_790_000_000,
  owned_by: 'turbine',
  turbine: {
    image_size: 224,
    device: 'cpu',
    tokens_in: 197,
    prune_levels: [
      { level: 0, prune_ratio: 0, tokens_out: 197 },
      { level: 1, prune_ratio: 0.5, tokens_out: 99 },
    ],
  },
}

const listModels = operation('get', '/v1/models', 'listModels', {
  summary: 'List the served models',
  responses: {
    200: jsonResponse('The models, the default one first.', modelListSchema, {
      object: 'list',
      data: [example],
    }),
    ...serviceErrors,
  },
})

const getModel = operation('get', '/v1/models/{id}', 'getModel', {
  summary: 'Retrieve a served model',
  request: { params: z.object({ id: modelIdSchema.openapi({ example: example.id }) }) },
  responses: {
    200: jsonResponse('The model.', modelSchema, example),
    404: modelNotFound,
    ...serviceErrors,
  },
})

/** `GET /v1/models` and `GET /v1/models/{id}`, in OpenAI's format. */
export function addModels(app: OpenAPIHono<EdgeEnv>, { models }: Pick<EdgeDeps, 'models'>): void {
  app.openapi(listModels, async (c) => c.json({ object: 'list' as const, data: await models() }, 200))
  // Ids can contain a slash, as in `Salesforce/blip-image-captioning-base`, and are often sent unescaped.
  app.get(`${documented(app, getModel)}{.+}`, async (c) =>
    c.json(findModel(await models(), c.req.param('id')), 200),
  )
}

/**
 * Finds the model with this id, or the default one.
 * @throws TurbineError `model_not_found`, `model_not_ready`
 */
export function findModel(models: ModelSummary[], id?: string): ModelSummary {
  if (models.length === 0) throw retryLater('model_not_ready', 'No model is loaded yet. Retry the request.')
  const model = id === undefined ? models[0] : models.find((candidate) => candidate.id === id)
  if (model) return model
  throw notFound('model', id!, `Served: ${models.map((served) => served.id).join(', ')}.`, 'model')
}
