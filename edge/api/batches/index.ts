import type { OpenAPIHono } from '@hono/zod-openapi'
import { keys } from '../../contract/keys.ts'
import { parse } from '../../contract/parse.ts'
import type { EdgeDeps, EdgeEnv } from '../../deps.ts'
import { jsonCopies, receiveBody } from '../../guard/body.ts'
import { createdOnce } from '../../guard/idempotency.ts'
import { assertStorage } from '../../guard/storage.ts'
import { readPage } from '../pages.ts'
import { maxJsonBytes, queryOf, readJson } from '../read.ts'
import { documented } from '../responses.ts'
import { readBatchRequest } from './request.ts'
import {
  batchExample,
  batchListQuerySchema,
  cancelBatch,
  createBatch,
  getBatch,
  listBatches,
} from './routes.ts'
import { findBatch, requireBatch, startBatch, stopBatch } from './stored.ts'

/** `/v1/batches`: create, list, retrieve, cancel, in OpenAI's format. */
export function addBatches(app: OpenAPIHono<EdgeEnv>, deps: EdgeDeps): void {
  app.post(
    documented(app, createBatch),
    receiveBody(deps, { maxBytes: maxJsonBytes, remedy: 'Put the images into a file.', copies: jsonCopies }),
    async (c) => {
      const tenant = c.get('tenant')
      const body = await readJson(c, batchExample)
      await assertStorage(deps, tenant)
      const repeatable = c.req.header('idempotency-key') !== undefined
      const batch = await createdOnce(c, deps, { prefix: 'batch_', sameBody: true }, (id) => {
        const ask = () => readBatchRequest(deps, tenant, body)
        return startBatch(deps, tenant, { id, ask, repeatable })
      })
      return c.json(batch, 200)
    },
  )

  app.get(documented(app, listBatches), async (c) => {
    const { after, limit } = parse(batchListQuerySchema, queryOf(c))
    const tenant = c.get('tenant').id
    const read = (id: string) => findBatch(deps, tenant, id)
    const { store, log } = deps
    return c.json(await readPage(store, { prefix: keys.batches(tenant), after, limit, read, log }), 200)
  })

  app.get(documented(app, getBatch), async (c) =>
    c.json(await requireBatch(deps, c.get('tenant').id, c.req.param('id')), 200),
  )

  app.post(documented(app, cancelBatch), async (c) =>
    c.json(await stopBatch(deps, c.get('tenant').id, c.req.param('id')), 200),
  )
}
