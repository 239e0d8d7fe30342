import { defineConfig } from "vite";

// Into the Python package's data; relative base, because the server chooses the path it serves under.
export default defineConfig({
  root: "template",
  base: "./",
  build: {
    outDir: "../../src/openegress/api/static/template",
    emptyOutDir: true,
    target: "chrome120",
    modulePreload: false,
    reportCompressedSize: false,
    chunkSizeWarningLimit: 700,
    rolldownOptions: {
      output: { entryFileNames: "template.js", assetFileNames: "template[extname]", codeSplitting: false },
    },
  },
});
