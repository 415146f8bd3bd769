import type { OpenAPIHono } from '@hono/zod-openapi'
import type { EdgeDeps, EdgeEnv } from '../deps.ts'

/** `POST /internal/replies/{id}`: where processors announce finished captions. */
export function addReplies(_app: OpenAPIHono<EdgeEnv>, _deps: EdgeDeps): void {}
