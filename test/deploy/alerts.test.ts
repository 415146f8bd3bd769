import { expect, it } from 'vitest'
import { readAlerts } from './alerts.ts'
import { metricsIn, registeredMetrics } from './metric-names.ts'

it('every alert looks at metrics that the service has', async () => {
  const known = await registeredMetrics()
  for (const { alert, expr } of await readAlerts()) {
    expect(metricsIn(expr).length, alert).toBeGreaterThan(0)
    expect(
      metricsIn(expr).filter((name) => !known.has(name)),
      alert,
    ).toEqual([])
  }
})

it('every alert says how grave it is, what is wrong and what to do', async () => {
  const alerts = await readAlerts()
  expect(new Set(alerts.map(({ alert }) => alert)).size).toBe(alerts.length)
  for (const { alert, labels, annotations } of alerts) {
    expect(labels.severity, alert).toMatch(/^(critical|warning)$/)
    expect(annotations.summary, alert).toBeTruthy()
    expect(annotations.description, alert).toBeTruthy()
  }
})
