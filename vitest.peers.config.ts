import { defineConfig } from 'vitest/config'

// The suites against real peers: one at a time, because each starts processes of its own and the
// clocks of the real driver count.
export default defineConfig({
  test: {
    pool: 'forks',
    // One line a test, so that a log says what was skipped and why.
    reporters: ['verbose'],
    fileParallelism: false,
    testTimeout: 180_000,
    hookTimeout: 180_000,
  },
})
