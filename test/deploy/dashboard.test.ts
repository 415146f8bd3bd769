import { readFile } from 'node:fs/promises'
import { expect, it } from 'vitest'
import { readDashboard } from './dashboard.ts'
import { metricsIn, registeredMetrics } from './metric-names.ts'

it('every panel shows metrics that the service has', async () => {
  const known = await registeredMetrics()
  const { panels } = await readDashboard()
  const charts = panels.filter(({ type }) => type !== 'row')
  expect(charts.length).toBeGreaterThan(15)
  for (const { title, targets = [] } of charts) {
    const names = targets.flatMap(({ expr }) => metricsIn(expr))
    expect(names.length, title).toBeGreaterThanOrEqual(targets.length)
    expect(
      names.filter((name) => !known.has(name)),
      title,
    ).toEqual([])
  }
})

it('no two panels overlap or share an id', async () => {
  const { panels } = await readDashboard()
  const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
    Array.from({ length: w * h }, (_, cell) => `${x + (cell % w)}, ${y + Math.floor(cell / w)}`),
  )
  expect(cells.length).toBe(new Set(cells).size)
  expect(panels.length).toBe(new Set(panels.map(({ id }) => id)).size)
  for (const { gridPos } of panels) expect(gridPos.x + gridPos.w).toBeLessThanOrEqual(24)
})

it('is provisioned where compose mounts it', async () => {
  const read = (file: string) => readFile(new URL(`../../infra/deploy/${file}`, import.meta.url), 'utf8')
  const compose = await read('compose.yaml')
  const folder = /path: (\S+) /.exec(await read('grafana/provisioning/dashboards/turbine.yaml'))?.[1]
  expect(compose).toContain(`./grafana/turbine.json:${folder}/turbine.json:ro`)
})
