import { memoryStore } from './memory.fixture.ts'
import { describeStore } from './store.contract.ts'

describeStore('memory store', async () => {
  const { store } = memoryStore()
  return { store, reopen: async () => store, dispose: () => store.close() }
})
