// Runs decision_cases.json on objects of a real project and saves it: what test_groovy_decisions.py reads back.
import java.awt.image.BufferedImage
import qupath.lib.images.ImageData
import qupath.lib.images.servers.WrappedBufferedImageServer
import qupath.lib.objects.PathObjects
import qupath.lib.objects.classes.PathClass
import qupath.lib.projects.ProjectIO
import qupath.lib.regions.ImagePlane
import qupath.lib.roi.ROIs

def read = { path -> new com.google.gson.Gson().fromJson(new File(path).getText('UTF-8'), Map) }
def job = read(args[0])
def shared = new GroovyShell(this.class.classLoader).parse(new File(job.shared))
shared.checkQuPath()
def table = read(job.table)
def decisions = shared.decisions(shared.schemeOf(table.scheme))
def fields = shared.objects

def made = { Map wanted, int place ->
    def pathClass = wanted['class'] == null ? null : PathClass.fromString(wanted['class'])
    def roi = ROIs.createRectangleROI(10 * place, 5, 8, 8, ImagePlane.getDefaultPlane())
    def object = PathObjects.createAnnotationObject(roi, pathClass)
    fields.setMeasurements(object, wanted.measurements)
    fields.setMetadata(object, wanted.metadata)
    object.setLocked(wanted.locked)
    return object
}
def decide = { object, List steps ->
    def undo = []
    steps.each { step ->
        if (step['do'] == 'undo') {
            decisions.restore(object, undo.pop())
        } else {
            undo.push(decisions.decide(object, step['do'], reader: step.reviewer, at: step.at,
                seconds: step.seconds, name: step.name, value: step.value as Integer))
        }
    }
}

def project = ProjectIO.loadProject(new File(job.project), BufferedImage)
def entry = project.getImageList().find { it.getID() == job.image }
def server = new WrappedBufferedImageServer('stand-in', new BufferedImage(8, 8, BufferedImage.TYPE_INT_RGB))
def imageData = new ImageData(server)
imageData.getHierarchy().setHierarchy(entry.readHierarchy())
def said = [ids: [], refusals: []]
table.cases.eachWithIndex { row, place ->
    def object = made(row.object, place)
    decide(object, row.decisions)
    imageData.getHierarchy().addObject(object)
    said.ids << object.getID().toString()
}
table.refused.each { row ->
    def object = made(row.object, 0)
    try {
        decide(object, row.decisions)
        said.refusals << [error: null]
    } catch (IllegalArgumentException error) {
        said.refusals << [error: error.message, unchanged: fields.className(object) == row.object['class'] &&
            fields.metadata(object) == row.object.metadata && fields.measurements(object) == row.object.measurements]
    }
}
shared.images.mark(project, entry, 'Dr A', true)
shared.images.save(entry, imageData, shared.images.stamp(entry))
new File(job.result).setText(new com.google.gson.Gson().toJson(said), 'UTF-8')
