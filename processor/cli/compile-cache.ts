import process from 'node:process'
import { userCacheFolder } from '../../infra/user-cache.ts'

/** The user's own folder for compiled code. What is in it is run, so that it has to be one that nobody else can write to. */
export const compileCacheFolder = (env: NodeJS.ProcessEnv = process.env): string | undefined =>
  userCacheFolder('compile-cache', env)
