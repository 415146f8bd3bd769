import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi'
import { TurbineError } from '../contract/errors.ts'
import { type ModelSummary, modelListSchema, modelSchema } from '../contract/model.ts'
import type { EdgeDeps, EdgeEnv } from '../deps.ts'
import { errorResponse, jsonResponse, serviceErrors } from './responses.ts'

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

const listModels = createRoute({
  method: 'get',
  path: '/v1/models',
  operationId: 'listModels',
  tags: ['models'],
  summary: 'The served models',
  responses: {
    200: jsonResponse('The models, the default one first.', modelListSchema, {
      object: 'list',
      data: [example],
    }),
    ...serviceErrors,
  },
})

const getModel = createRoute({
  method: 'get',
  path: '/v1/models/{id}',
  operationId: 'getModel',
  tags: ['models'],
  summary: 'One served model',
  request: { params: z.object({ id: z.string().openapi({ example: example.id }) }) },
  responses: {
    200: jsonResponse('The model.', modelSchema, example),
    404: errorResponse(404, 'model_not_found', 'There is no model "other". Served: starter.'),
    ...serviceErrors,
  },
})

/** `GET /v1/models` and `GET /v1/models/{id}`, in OpenAI's shapes. */
export function addModels(app: OpenAPIHono<EdgeEnv>, { models }: Pick<EdgeDeps, 'models'>): void {
  app.openapi(listModels, async (c) => c.json({ object: 'list' as const, data: await models() }, 200))
  app.openAPIRegistry.registerPath(getModel)
  // Ids can hold a slash, as in `Salesforce/blip-image-captioning-base`, and people type it as it is.
  app.get('/v1/models/:id{.+}', async (c) => c.json(findModel(await models(), c.req.param('id')), 200))
}

/**
 * The model with this id, or the default one when none is named.
 * @throws TurbineError `model_not_found`, `model_not_ready`
 */
export function findModel(models: ModelSummary[], id?: string): ModelSummary {
  if (models.length === 0)
    throw new TurbineError('No model is loaded yet. Send the request again.', {
      status: 503,
      code: 'model_not_ready',
      retryAfterSeconds: 1,
    })
  const model = id === undefined ? models[0] : models.find((candidate) => candidate.id === id)
  if (model) return model
  const served = models.map((candidate) => candidate.id).join(', ')
  throw new TurbineError(`There is no model "${id?.slice(0, 80)}". Served: ${served}.`, {
    status: 404,
    code: 'model_not_found',
    param: 'model',
  })
}
