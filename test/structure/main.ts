import { fileURLToPath } from 'node:url'
import {
  baselineLines,
  checkFolders,
  checkImports,
  folderSizes,
  isProduct,
  productLines,
  trackedFiles,
} from './structure.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))
const files = trackedFiles(root)
const violations = [...checkFolders(files), ...(await checkImports(root))]
const lines = productLines(root, files)
const [fullest] = folderSizes(files)

console.log(
  `${files.filter(isProduct).length} product files; the fullest folder is ${fullest!.folder} with ${fullest!.count}`,
)
console.log(`${lines} lines of product code, ${lines - baselineLines} against ${baselineLines}`)
for (const { rule, message } of violations) console.log(`${rule}: ${message}`)
console.log(violations.length === 0 ? 'The structure holds.' : `${violations.length} violations`)
process.exitCode = violations.length === 0 ? 0 : 1
