import { defineConfig } from 'vitest/config'

/** Where to write the results as JSON as well. */
const report = process.env.VITEST_JSON_REPORT

export default defineConfig({
  test: {
    include: ['{edge,processor,infra,test}/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
    reporters: report ? ['default', ['json', { outputFile: report }]] : ['default'],
  },
})
