import { type OpenAPIHono, z } from '@hono/zod-openapi'
import { defaultMaxImages } from '../contract/ask.ts'
import { modelIdSchema } from '../contract/caption.ts'
import { excerpt, notFound, retryLater } from '../contract/errors.ts'
import { type ModelSummary, modelListSchema, modelOf, modelSchema } from '../contract/model.ts'
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
export function addModels(app: OpenAPIHono<EdgeEnv>, deps: ModelDeps): void {
  app.get(documented(app, listModels), async (c) => {
    const models = [...(await deps.models()), ...(await aliasesOf(deps))]
    return c.json({ object: 'list' as const, data: models.map((model) => served(model, deps.reading)) }, 200)
  })
  // Ids can contain a slash, as in `Salesforce/blip-image-captioning-base`, and are often sent unescaped.
  app.get(`${documented(app, getModel)}{.+}`, async (c) => {
    const name = c.req.param('id')
    return c.json(served(named(await findModel(deps, name), name), deps.reading), 200)
  })
}

type ModelDeps = Pick<EdgeDeps, 'models' | 'reading'>

/** A model as this service serves it, which may take fewer images. */
function served(model: ModelSummary, { maxImages = defaultMaxImages }: ModelDeps['reading']): ModelSummary {
  const { max_images: most = 1 } = model.turbine
  return most <= maxImages ? model : { ...model, turbine: { ...model.turbine, max_images: maxImages } }
}

/** A model by another name. */
const named = (model: ModelSummary, name: string): ModelSummary =>
  name === model.id ? model : { ...model, id: name, turbine: { ...model.turbine, alias_of: model.id } }

/** The aliases of known models, as models. */
async function aliasesOf({ models, reading: { aliases = {} } }: ModelDeps): Promise<ModelSummary[]> {
  const known = await models()
  return Object.entries(aliases).flatMap(([name, target]) => {
    const model = known.find(({ id }) => id === target)
    return model ? [named(model, name)] : []
  })
}

/**
 * Finds the model with this id or alias, or the default one. It was announced once; no processor need serve it now.
 * @throws TurbineError `model_not_found`, `model_not_ready`
 */
export async function findModel(deps: ModelDeps, name?: string): Promise<ModelSummary> {
  const models = await deps.models()
  const { aliases } = deps.reading
  if (models.length === 0) throw notReady('No model is loaded yet.')
  const byId = (id: string | undefined) => models.find((candidate) => candidate.id === id)
  const model = name === undefined ? models[0] : (byId(name) ?? byId(modelOf(name, aliases)))
  if (model) return model
  const target = modelOf(name!, aliases)
  const alias = target === name ? '' : `It stands for "${excerpt(target)}", which is not served. `
  const names = [...models.map(({ id }) => id), ...Object.keys(aliases ?? {})]
  throw notFound('model', name!, `${alias}Served: ${excerpt(names.join(', '), 400)}.`, 'model')
}

/**
 * Finds the model for a caller who waits.
 * @throws TurbineError as `findModel` does, and `model_not_ready` when no processor has served it for so long that the
 * stream would lose the job
 */
export async function findServedModel(deps: ModelDeps, name?: string): Promise<ModelSummary> {
  const model = await findModel(deps, name)
  if (model.turbine.state !== 'stopped') return model
  throw notReady(`No processor has served the model "${excerpt(model.id)}" for a day.`)
}

const notReady = (why: string) =>
  retryLater('model_not_ready', `${why} Retry the request.`, { retryAfterSeconds: 5 })
