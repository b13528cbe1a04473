// Walks a queue as the review window does, without the window: what test_groovy_walk.py reads back.
import qupath.lib.objects.PathObjects
import qupath.lib.objects.classes.PathClass
import qupath.lib.objects.hierarchy.PathObjectHierarchy
import qupath.lib.regions.ImagePlane
import qupath.lib.roi.ROIs

def read = { path -> new com.google.gson.Gson().fromJson(new File(path).getText('UTF-8'), Map) }
def job = read(args[0])
def shared = new GroovyShell(this.class.classLoader).parse(new File(job.scripts, 'glombridge_shared.groovy'))
shared.begin(new File(job.scripts), shared.level)
def walk = shared.part('glombridge_walk.groovy').walk(shared.schemeOf(job.scheme))
def images = [:]
def names = [:]

job.images.each { image, rows ->
    images[image] = new PathObjectHierarchy()
    rows.each { row ->
        def (x, y, w, h) = row.box
        def roi = ROIs.createRectangleROI(x, y, w, h, ImagePlane.getPlane((row.z ?: 0) as int, 0))
        def make = row.detection ? PathObjects.&createDetectionObject : PathObjects.&createAnnotationObject
        def object = make(roi, PathClass.fromString(row['class']))
        shared.objects.setMeasurements(object, row.measurements ?: [:])
        shared.objects.setMetadata(object, row.metadata ?: [:])
        object.setLocked(true)
        images[image].addObject(object)
        names[object.getID().toString()] = row.name
    }
    walk.replace(image, walk.queue.items(image, image, images[image].getAllObjects(false)))
}
def objects = { image -> images[image].getAllObjects(false) }
def rowOf = { name -> walk.items.find { names[it.id] == name } }
def state = {
    images.values().collectMany { it.getAllObjects(false) }.findAll { names[it.getID().toString()] }.collectEntries { object ->
        [(names[object.getID().toString()]): [shared.objects.className(object), shared.objects.measurements(object),
                                             shared.objects.metadata(object), object.isLocked()]]
    }
}
def told = { row ->
    row == null ? null : [name: names[row.id], state: row.state, judged: names[row.judged], kind: row.kind, lesions: row.lesions.findAll { it.value != null },
                          line: walk.inShort(row), words: walk.inWords(row),]
}
def answers = job.steps.collect { step ->
    walk.filter.putAll(step.filter ?: [:])
    def said = [:]
    try {
        if (step['do'] == 'undo') {
            said.row = told(walk.last)
            said.changed = walk.last == null ? null : walk.takeBack(objects(walk.last.entry)).collect { names[it.getID().toString()] }
        } else if (step['do'] == 'next') {
            def list = walk.visible
            int to = walk.next(list, list.findIndexOf { names[it.id] == step.on }, (step.by ?: 1) as int, step.onlyOpen == true)
            said.to = to < 0 ? null : names[list[to].id]
        } else if (step['do'] != null) {
            def row = rowOf(step.on)
            said.changed = walk.decide(reader: step.reader, at: step.at, seconds: step.seconds,
                name: step.name, value: step.value as Integer, row, objects(row.entry), step["do"]).collect { names[it.getID().toString()] }
            said.row = told(row)
        }
    } catch (IllegalArgumentException | IllegalStateException error) {
        said.error = error.message
    }
    said + [visible: walk.visible.collect { names[it.id] }, counts: walk.counts, choices: walk.choices, first: walk.firstChoice,
            rows: walk.items.collect { told(it) }, state: state(),]
}
new File(job.result).setText(new com.google.gson.GsonBuilder().serializeNulls().create().toJson(answers), 'UTF-8')
