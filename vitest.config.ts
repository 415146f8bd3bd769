import { defineConfig } from 'vitest/config'

/** Where to write the results as JSON as well. */
const report = process.env.VITEST_JSON_REPORT

/** The command as users and documents run it, in processes of its own. */
const endToEnd = ['test/e2e/**/*.test.ts', 'test/docs/commands.test.ts']
/** Tests against real servers: Kafka, S3, workerd. */
const integration = '{edge,processor,infra,test}/**/*.integration.test.ts'
/** A test of what a load does: it needs the machine for itself, so it runs after the others. */
const load = 'test/integration/autoscale.integration.test.ts'
/** A fleet in a storm of faults: it needs the machine for itself too. */
const chaos = 'test/chaos/chaos.integration.test.ts'
/** Runs every benchmark, after what looks at latencies. */
const smoke = 'test/bench/smoke.test.ts'

export default defineConfig({
  test: {
    testTimeout: 60_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
    reporters: report ? ['default', ['json', { outputFile: report }]] : ['default'],
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['{edge,processor,infra,test}/**/*.test.ts'],
          exclude: [...endToEnd, integration, smoke],
        },
      },
      {
        extends: true,
        test: {
          name: 'e2e',
          include: endToEnd,
        },
      },
      {
        extends: true,
        test: {
          name: 'integration',
          include: [integration],
          exclude: [load, chaos],
          globalSetup: 'test/servers/setup.ts',
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        extends: true,
        test: {
          name: 'load',
          include: [load],
          hookTimeout: 120_000,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: 'chaos',
          include: [chaos],
          sequence: { groupOrder: 2 },
        },
      },
      {
        extends: true,
        test: {
          name: 'bench',
          include: [smoke],
          testTimeout: 180_000,
          maxConcurrency: 2,
          sequence: { groupOrder: 3 },
        },
      },
    ],
  },
})
