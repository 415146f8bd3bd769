import { defineConfig } from 'vitest/config'

/** Where to write the results as JSON as well. */
const report = process.env.VITEST_JSON_REPORT

/** Tests against real servers: Kafka, S3, workerd. */
const integration = '{edge,processor,infra,test}/**/*.integration.test.ts'
/** Tests of what a load does: they take minutes and need the machine for themselves, so they run by `npm run test:load`. */
const load = 'test/integration/autoscale.integration.test.ts'

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
          exclude: [integration],
        },
      },
      {
        extends: true,
        test: {
          name: 'integration',
          include: [integration],
          exclude: [load],
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
          globalSetup: 'test/servers/setup.ts',
          hookTimeout: 120_000,
        },
      },
    ],
  },
})
