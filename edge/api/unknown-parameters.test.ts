import { expect, test } from 'vitest'
import { errorOf, fakeEdge } from '../app.fixture.ts'

interface Operation {
  parameters?: { in: string; name: string }[]
}

const { app } = fakeEdge()
const document = (await (await app.request('/openapi.json')).json()) as {
  paths: Record<string, Record<string, Operation>>
}
const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ method, path, operation })),
)
const ofCallers = operations.filter(({ path }) => path.startsWith('/v1/'))

test('there are operations to try', () => expect(ofCallers.length).toBeGreaterThan(15))

test.each(ofCallers.map(({ method, path, operation }) => [method, path, operation] as const))(
  '%s %s refuses a parameter in its query that it does not know',
  async (method, path, operation) => {
    const known = (operation.parameters ?? []).filter((parameter) => parameter.in === 'query')
    const names = ['unknown', 'limit', 'purpose', 'stream'].filter(
      (name) => !known.some((parameter) => parameter.name === name),
    )
    for (const name of names) {
      const address = path.replace(/\{\w+\}/g, 'cap_1')
      const body = method === 'post' ? { body: '{}', headers: { 'content-type': 'application/json' } } : {}
      const response = await app.request(`${address}?${name}=1`, { method: method.toUpperCase(), ...body })
      expect(response.status).toBe(400)
      expect(await errorOf(response)).toMatchObject({ code: 'unknown_parameter', param: name })
    }
  },
)
